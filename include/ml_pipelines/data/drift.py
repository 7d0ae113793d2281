"""Measure how far features have drifted between two trainings, or between a training and a batch.

The measure is the population stability index: over the bins of a feature, the sum of
`(current - reference) * ln(current / reference)`, of shares of the rows. Missing cells are a bin of their own.
By convention an index below 0.1 is stable, and one from 0.25 on is a large drift (B. Yurdakul, "Statistical Properties
of Population Stability Index", Western Michigan University, 2018).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise

from ml_pipelines.contracts import Contract
from ml_pipelines.data.feature_profile import CategoryProfile, FeatureProfile, NumberProfile

__all__ = ["LARGE_DRIFT", "MODERATE_DRIFT", "FeatureDrift", "compare_profiles"]

MODERATE_DRIFT = 0.1
LARGE_DRIFT = 0.25
_LEAST_SHARE = 1e-4  # in place of the share of an empty bin, because the logarithm of 0 is not finite
_ROUNDING = 1e-9
_BINS = tuple(position / 10 for position in range(1, 10))


class FeatureDrift(Contract):
    """How far one feature has drifted.

    Attributes:
        feature: its name.
        index: the population stability index; None if a profile is missing, or if the two are of different kinds.
        reference: its profile in the earlier data; None if the feature is new.
        current: its profile in the later data; None if the feature is gone.
    """

    feature: str
    index: float | None
    reference: FeatureProfile | None
    current: FeatureProfile | None


def compare_profiles(
    reference: Mapping[str, FeatureProfile], current: Mapping[str, FeatureProfile]
) -> list[FeatureDrift]:
    """Return the drift of each feature: those without an index first, then by falling index.

    Args:
        reference: profiles of the earlier data, by feature.
        current: profiles of the later data, by feature.
    """
    names = dict.fromkeys([*current, *reference])
    drifts = [_feature_drift(name, reference.get(name), current.get(name)) for name in names]
    return sorted(drifts, key=lambda drift: -math.inf if drift.index is None else -drift.index)


def _feature_drift(name: str, reference: FeatureProfile | None, current: FeatureProfile | None) -> FeatureDrift:
    index = None
    if reference is not None and current is not None and (shares := _shares(reference, current)) is not None:
        index = _stability_index(*shares)
    return FeatureDrift(feature=name, index=index, reference=reference, current=current)


def _stability_index(reference: Sequence[float], current: Sequence[float]) -> float:
    pairs = [(max(old, _LEAST_SHARE), max(new, _LEAST_SHARE)) for old, new in zip(reference, current, strict=True)]
    return sum((new - old) * math.log(new / old) for old, new in pairs)


def _shares(reference: FeatureProfile, current: FeatureProfile) -> tuple[list[float], list[float]] | None:
    """Return the shares of the same bins in both profiles, missing cells first; None if the kinds differ."""
    if isinstance(reference, CategoryProfile) and isinstance(current, CategoryProfile):
        levels = _comparable_levels(reference, current)
        return _level_shares(reference, levels), _level_shares(current, levels)
    if isinstance(reference, NumberProfile) and isinstance(current, NumberProfile):
        # Without values there are no edges: only the share of missing cells can differ.
        quantiles = reference.quantiles
        edges = sorted({quantiles[str(share)] for share in _BINS if str(share) in quantiles})
        return _number_shares(reference, edges), _number_shares(current, edges)
    return None


def _comparable_levels(reference: CategoryProfile, current: CategoryProfile) -> list[str]:
    """Return the levels whose share both profiles hold: a level that a cut list leaves out has an unknown share."""
    return [
        level
        for level in dict.fromkeys([*reference.levels, *current.levels])
        if all(level in profile.levels or _is_complete(profile) for profile in (reference, current))
    ]


def _is_complete(profile: CategoryProfile) -> bool:
    return sum(profile.levels.values()) + profile.missing > 1.0 - _ROUNDING


def _level_shares(profile: CategoryProfile, levels: Sequence[str]) -> list[float]:
    shares = [profile.levels.get(level, 0.0) for level in levels]
    return [profile.missing, *shares, max(0.0, 1.0 - profile.missing - sum(shares))]


def _number_shares(profile: NumberProfile, edges: Sequence[float]) -> list[float]:
    if profile.min is None or profile.max is None:
        return [profile.missing, *[0.0] * (len(edges) + 1)]
    points = _distribution(profile, profile.min, profile.max)
    below = [0.0, *(_share_up_to(points, edge) for edge in edges), 1.0]
    return [profile.missing, *((high - low) * (1.0 - profile.missing) for low, high in pairwise(below))]


def _distribution(profile: NumberProfile, low: float, high: float) -> list[tuple[float, float]]:
    """Return the stored points of the cumulative distribution, as value and share, in ascending order."""
    stored = [(value, profile.up_to.get(share, float(share))) for share, value in profile.quantiles.items()]
    return sorted([(low, 0.0), *stored, (high, 1.0)])


def _share_up_to(points: Sequence[tuple[float, float]], value: float) -> float:
    """Return the share of the values that are at most `value`, by linear interpolation."""
    right = bisect_right(points, (value, math.inf))  # after the points equal to the value, which count as well
    if right == 0:
        return 0.0
    if right == len(points):
        return 1.0
    (x0, y0), (x1, y1) = points[right - 1], points[right]
    return y0 + (y1 - y0) * (value - x0) / (x1 - x0)
