"""Permutation importances of the features of a fitted model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

__all__ = ["permutation_importances", "sample_rows"]

ROWS = 500
MAX_FEATURES = 100
REPEATS = 2


def permutation_importances(
    model: Pipeline, frame: pd.DataFrame, y: NDArray[Any], seed: int
) -> dict[str, float] | None:
    """Mean increase of the loss of some training rows when a column is shuffled: log loss, or squared error.

    scikit-learn's `permutation_importance` calls the model for every shuffled column. For so few rows the calls take
    most of the time, so this function makes one call a repeat. None for very wide tables, where it would take longer
    than the fit.
    """
    if frame.shape[1] > MAX_FEATURES:
        return None
    rows = sample_rows(len(frame), ROWS, seed)
    frame, y, rng = frame.iloc[rows], y[rows], np.random.default_rng(seed)
    loss = _losses(model, frame, y)
    increases = []
    for _ in range(REPEATS):
        shuffled = [frame.assign(**{str(name): frame[name].array[rng.permutation(len(y))]}) for name in frame]
        losses = _losses(model, pd.concat(shuffled, ignore_index=True), np.tile(y, len(shuffled)))
        increases.append(losses.reshape(len(shuffled), -1).mean(axis=1) - loss.mean())
    return dict(zip(frame.columns, np.mean(increases, axis=0).tolist(), strict=True))


def sample_rows(rows: int, size: int, seed: int) -> NDArray[np.intp]:
    """Return at most `size` random positions, in ascending order."""
    return np.sort(np.random.default_rng(seed).permutation(rows)[:size])


def _losses(model: Pipeline, frame: pd.DataFrame, y: NDArray[Any]) -> NDArray[np.float64]:
    """Loss of each row, shape (rows,)."""
    with threadpool_limits(1):  # so few rows cost less than the start of threads
        if hasattr(model, "predict_proba"):
            likelihood = model.predict_proba(frame)[np.arange(len(y)), np.searchsorted(model.classes_, y)]
            return np.asarray(-np.log(np.maximum(likelihood, np.finfo(likelihood.dtype).eps)), dtype=np.float64)
        return np.asarray((y - model.predict(frame)) ** 2, dtype=np.float64)
