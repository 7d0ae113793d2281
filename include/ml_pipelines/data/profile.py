"""Summaries of columns, stored with a model; :mod:`ml_pipelines.data.drift` compares later tables with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import polars as pl

__all__ = ["profile_column", "profile_features"]

_TOP_LEVELS = 20
_QUANTILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def profile_features(frame: pd.DataFrame, features: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The profile of each feature of a frame, by name."""
    return {each["name"]: profile_column(frame[each["name"]], each["dtype"]) for each in features}


def profile_column(column: pd.Series, dtype: str) -> dict[str, Any]:
    """What later data is compared with. Times count in days since 1970-01-01."""
    missing = float(column.isna().mean())
    present = column.dropna()
    if dtype in ("string", "boolean"):
        counts = {str(level): count for level, count in present.value_counts().items() if count}
        top = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_TOP_LEVELS]
        return {"levels": {level: count / len(column) for level, count in top}, "missing": missing}
    if dtype in ("date", "datetime"):
        present = (present - pd.Timestamp(0)) / pd.Timedelta(days=1)
    if present.empty:
        return {**dict.fromkeys(("mean", "std", "min", "max")), "quantiles": {}, "up_to": {}, "missing": missing}
    # Polars sorts three times as fast as numpy. No -0.0: whether it or 0.0 comes first is up to the sorter.
    values = pl.Series(present.to_numpy(np.float64)).sort().to_numpy() + 0.0
    # Values that are there: between two whole numbers lies none, and the shares up to such a point are no facts.
    lower = values[np.floor((len(values) - 1) * np.asarray(_QUANTILES)).astype(np.intp)]
    quantiles = dict(zip(map(str, _QUANTILES), lower.tolist(), strict=True))
    return {
        "mean": float(values.mean()),
        "std": float(values.std()),
        "min": float(values[0]),
        "max": float(values[-1]),
        "quantiles": quantiles,
        # Of whole numbers many are equal to a quantile, so that more than its share of them are at most that.
        "up_to": {
            share: float(np.searchsorted(values, quantile, side="right") / len(values))
            for share, quantile in quantiles.items()
        },
        "missing": missing,
    }
