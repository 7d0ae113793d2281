"""Predictions of a model as columns of a table."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ml_pipelines.evaluation.target_schema import TargetSchema, predicted_labels

__all__ = ["prediction_columns"]


def prediction_columns(target: TargetSchema, score: NDArray[Any]) -> list[pl.Series]:
    """Return the predictions of rows as columns.

    Args:
        target: the target, with the threshold of the model.
        score: the validated predictions.

    Returns:
        `prediction`, and in a classification `probability` of the positive class or one `probability_<label>` for each
        class.
    """
    if not target.classes:
        return [pl.Series("prediction", score)]
    labels = pl.Series(target.classes)
    if target.binary:
        other = next(index for index, label in enumerate(target.classes) if label != target.positive)
        best = np.where(predicted_labels(target, score) == 1, 1 - other, other)
        return [labels.gather(best).alias("prediction"), pl.Series("probability", score)]
    probabilities = [pl.Series(f"probability_{label}", score[:, index]) for index, label in enumerate(target.classes)]
    return [labels.gather(score.argmax(axis=1)).alias("prediction"), *probabilities]
