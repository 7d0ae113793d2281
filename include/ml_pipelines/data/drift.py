"""How far the features of one training have moved from those of another, told from the stored profiles of both.

The measure is the population stability index: over the bins of a feature, the sum of
`(now - then) * ln(now / then)`, where `now` and `then` are shares of the rows. Missing cells are a bin of their own.
Below 0.1 a feature is commonly called stable; from 0.25 on, another one.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

__all__ = ["LARGE_DRIFT", "MODERATE_DRIFT", "FeatureDrift", "compare_profiles"]

MODERATE_DRIFT = 0.1
LARGE_DRIFT = 0.25
_LEAST_SHARE = 1e-4  # stands for an empty bin, whose logarithm there is not
_ROUNDING = 1e-9
_BINS = tuple(position / 10 for position in range(1, 10))

Profile = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureDrift:
    """How far one feature has moved.

    Attributes:
        feature: its name.
        index: the population stability index; None if the feature was not there then, or is of another kind now.
        reference: its profile in the earlier training, None if it was not there.
        current: its profile in this one, None if it is no longer there.
    """

    feature: str
    index: float | None
    reference: Profile | None
    current: Profile | None


def compare_profiles(then: Mapping[str, Profile], now: Mapping[str, Profile]) -> list[FeatureDrift]:
    """Compare two profiles: features that came, went or changed their kind first, then the one that has moved most.

    Args:
        then: profiles by feature, as a training's record holds them.
        now: the same of a later training.
    """
    found = [_compared(name, then.get(name), now.get(name)) for name in dict.fromkeys([*now, *then])]
    return sorted(found, key=lambda each: -math.inf if each.index is None else -each.index)


def _compared(name: str, then: Profile | None, now: Profile | None) -> FeatureDrift:
    index = None
    if then is not None and now is not None and (shares := _shares(then, now)) is not None:
        index = _index(*shares)
    return FeatureDrift(feature=name, index=index, reference=then, current=now)


def _index(then: Sequence[float], now: Sequence[float]) -> float:
    pairs = [(max(old, _LEAST_SHARE), max(new, _LEAST_SHARE)) for old, new in zip(then, now, strict=True)]
    return sum((new - old) * math.log(new / old) for old, new in pairs)


def _shares(then: Profile, now: Profile) -> tuple[list[float], list[float]] | None:
    """The shares of the same bins then and now, missing cells first; None if the two can't be compared."""
    if "levels" in then and "levels" in now:
        levels = _known_in_both(then, now)
        return _of_levels(then, levels), _of_levels(now, levels)
    if "quantiles" in then and "quantiles" in now:
        # Without any value there are no edges: all that may have changed is how much is missing.
        edges = sorted({float(then["quantiles"][str(share)]) for share in _BINS if str(share) in then["quantiles"]})
        return _of_numbers(then, edges), _of_numbers(now, edges)
    return None


def _known_in_both(then: Profile, now: Profile) -> list[str]:
    """The levels whose share is known then and now: one that a cut list leaves out may be anything but common."""
    return [
        level
        for level in dict.fromkeys([*then["levels"], *now["levels"]])
        if all(level in profile["levels"] or _whole(profile) for profile in (then, now))
    ]


def _whole(profile: Profile) -> bool:
    return float(sum(profile["levels"].values()) + profile["missing"]) > 1.0 - _ROUNDING


def _of_levels(profile: Profile, levels: Sequence[str]) -> list[float]:
    known = [float(profile["levels"].get(level, 0.0)) for level in levels]
    missing = float(profile["missing"])
    return [missing, *known, max(0.0, 1.0 - missing - sum(known))]


def _of_numbers(profile: Profile, edges: Sequence[float]) -> list[float]:
    missing = float(profile["missing"])
    if not profile["quantiles"]:
        return [missing, *[0.0] * (len(edges) + 1)]
    below = [0.0, *(_share_up_to(profile, edge) for edge in edges), 1.0]
    return [missing, *((high - low) * (1.0 - missing) for low, high in pairwise(below))]


def _share_up_to(profile: Profile, value: float) -> float:
    """The share of the present cells that are at most `value`; between the stored quantiles on a straight line."""
    exact = profile.get("up_to") or {}
    known = [(float(at), float(exact.get(share, share))) for share, at in profile["quantiles"].items()]
    points = sorted([(float(profile["min"]), 0.0), *known, (float(profile["max"]), 1.0)])
    right = bisect_right(points, (value, math.inf))  # past all that equal it: they are at most `value` too
    if right == 0:
        return 0.0
    if right == len(points):
        return 1.0
    (x0, y0), (x1, y1) = points[right - 1], points[right]
    return y0 + (y1 - y0) * (value - x0) / (x1 - x0)
