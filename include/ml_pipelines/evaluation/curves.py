"""Curves and confusion matrices of an evaluation, as plain JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics
from sklearn.calibration import calibration_curve

from ml_pipelines.contracts import JsonValue
from ml_pipelines.evaluation.scorers import confusion_matrix, sort_by_score
from ml_pipelines.evaluation.target_schema import TargetSchema, predicted_labels

__all__ = ["curves_and_confusion"]

Array = NDArray[Any]

CURVE_POINTS = 200
CALIBRATION_BINS = 10
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def curves_and_confusion(target: TargetSchema, truth: Array, predictions: Array) -> dict[str, JsonValue]:
    """Return `curves` and `confusion` of the same rows. With more than two classes there are no curves."""
    if not target.classes:
        return {"curves": {"residuals": _residuals(truth, predictions)}, "confusion": None}
    labels = target.labels
    if target.binary:
        labels = (next(label for label in target.classes if label != target.positive), target.positive)
    return {
        "curves": _curves(truth, predictions) if target.binary else {},
        "confusion": _confusion(labels, truth, predicted_labels(target, predictions)),
    }


def _curves(truth: Array, probabilities: Array) -> dict[str, JsonValue]:
    if not 0 < truth.sum() < len(truth):
        return {}
    ranking = sort_by_score(truth, probabilities)
    false_rate, true_rate, _ = metrics.roc_curve(*ranking)
    precision, recall, _ = metrics.precision_recall_curve(*ranking)
    observed, predicted = calibration_curve(truth, probabilities, n_bins=CALIBRATION_BINS, strategy="quantile")
    return {
        "roc": _thinned(false_rate, true_rate),
        "pr": _thinned(recall[::-1], precision[::-1]),
        "calibration": _thinned(predicted, observed),
    }


def _thinned(x: Array, y: Array) -> dict[str, JsonValue]:
    """At most `CURVE_POINTS` points, the first and the last among them."""
    kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), CURVE_POINTS)).round().astype(np.int64))
    return {"x": [float(value) for value in x[kept]], "y": [float(value) for value in y[kept]]}


def _confusion(labels: Sequence[Any], truth: Array, predicted: Array) -> dict[str, JsonValue]:
    """Rows are the true labels, columns the predicted ones."""
    return {"labels": list(labels), "matrix": confusion_matrix(truth, predicted, len(labels)).tolist()}


def _residuals(truth: Array, predictions: Array) -> dict[str, JsonValue]:
    """Truth minus prediction: a summary, and some points over the prediction."""
    residuals = truth - predictions
    quantiles = np.quantile(residuals, QUANTILES)
    return {
        "mean": float(residuals.mean()),
        "std": float(residuals.std()),
        "quantiles": {str(q): float(value) for q, value in zip(QUANTILES, quantiles, strict=True)},
        **_thinned(predictions, residuals),
    }
