"""Summarise the features of a training; :mod:`ml_pipelines.data.drift` compares later tables with the summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import polars as pl

from ml_pipelines.data.feature_profile import CategoryProfile, FeatureProfile, NumberProfile

__all__ = ["profile_column", "profile_features"]

_TOP_LEVELS = 20
_QUANTILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def profile_features(frame: pd.DataFrame, features: Sequence[Mapping[str, Any]]) -> dict[str, FeatureProfile]:
    """Return the profile of each feature of a frame, by name."""
    return {feature["name"]: profile_column(frame[feature["name"]], feature["dtype"]) for feature in features}


def profile_column(column: pd.Series, dtype: str) -> FeatureProfile:
    """Return the profile of a feature with a dtype such as `float` or `string`."""
    missing = float(column.isna().mean())
    present = column.dropna()
    if dtype in ("string", "boolean"):
        counts = {str(level): count for level, count in present.value_counts().items() if count}
        top = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_TOP_LEVELS]
        return CategoryProfile(levels={level: count / len(column) for level, count in top}, missing=missing)
    if dtype in ("date", "datetime"):
        present = (present - pd.Timestamp(0)) / pd.Timedelta(days=1)
    return _profile_numbers(present.to_numpy(np.float64), missing)


def _profile_numbers(numbers: np.ndarray, missing: float) -> NumberProfile:
    if not len(numbers):
        return NumberProfile(mean=None, std=None, min=None, max=None, quantiles={}, up_to={}, missing=missing)
    # Polars sorts three times as fast as numpy. Without -0.0, whose order beside 0.0 depends on the sorter.
    values = pl.Series(numbers).sort().to_numpy() + 0.0
    # Values of the data, not interpolated ones: no value lies between two whole numbers, so no share belongs to it.
    lower = values[np.floor((len(values) - 1) * np.asarray(_QUANTILES)).astype(np.intp)]
    quantiles = dict(zip(map(str, _QUANTILES), lower.tolist(), strict=True))
    return NumberProfile(
        mean=float(values.mean()),
        std=float(values.std()),
        min=float(values[0]),
        max=float(values[-1]),
        quantiles=quantiles,
        # Many whole numbers are equal to a quantile, so that more than its share of them are at most that.
        up_to={
            share: float(np.searchsorted(values, quantile, side="right") / len(values))
            for share, quantile in quantiles.items()
        },
        missing=missing,
    )
