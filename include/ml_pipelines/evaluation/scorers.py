"""Compute the metrics of the table :data:`ml_pipelines.spec.metric_table.METRICS`, with scikit-learn.

The arguments of a scorer depend on `needs`, see :class:`ml_pipelines.spec.metric_table.Metric`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from ml_pipelines._utils.imports import import_object
from ml_pipelines.errors import ExtensionError, PipelineError, UserCodeError
from ml_pipelines.evaluation.target_schema import TargetSchema, predicted_labels
from ml_pipelines.pipeline.user_code import load_code
from ml_pipelines.pipeline.user_errors import user_code_errors
from ml_pipelines.spec.custom_metric import metric_function
from ml_pipelines.spec.metric_table import METRICS, Metric, metrics_of

__all__ = [
    "MetricValues",
    "accuracy",
    "average_precision",
    "balanced_accuracy",
    "brier",
    "compute_metrics",
    "confusion_matrix",
    "f1",
    "log_loss",
    "mae",
    "median_ae",
    "precision",
    "r2",
    "recall",
    "rmse",
    "roc_auc",
    "sort_by_score",
]

Array = NDArray[Any]
MetricValues = dict[str, float | None]


def compute_metrics(
    target: TargetSchema, truth: Array, predictions: Array, metrics: Iterable[Metric] | None = None
) -> MetricValues:
    """Return the value of each metric by name; None for one that these rows do not define.

    Args:
        target: task and labels.
        truth: of :func:`ml_pipelines.evaluation.target_schema.encode_labels`, shape (rows,).
        predictions: shape (rows,), or (rows, labels) with more than two labels.
        metrics: default all metrics of this package for the task.

    Raises:
        ExtensionError: the scorer of another package fails.
    """
    inputs = _ScorerInputs(target, truth, predictions)
    wanted = metrics_of(target.task) if metrics is None else metrics
    return {metric.name: _finite(_score(metric, inputs)) for metric in wanted}


class _ScorerInputs:
    """The arguments of scorers, each computed once for all metrics that need it."""

    def __init__(self, target: TargetSchema, truth: Array, predictions: Array) -> None:
        self.target, self.truth, self.predictions = target, truth, predictions

    @functools.cached_property
    def labels(self) -> Array:
        return predicted_labels(self.target, self.predictions)

    @functools.cached_property
    def confusion(self) -> Array:
        return confusion_matrix(self.truth, self.labels, 2 if self.target.binary else len(self.target.labels))

    @functools.cached_property
    def rankings(self) -> list[tuple[Array, Array]]:
        """One of each label that occurs, or of the positive label; none if all rows have the same label."""
        present = np.unique(self.truth)
        if len(present) < 2:
            return []
        if self.target.binary:
            return [sort_by_score(self.truth, self.predictions)]
        return [sort_by_score(self.truth == label, self.predictions[:, label]) for label in present]


def _score(metric: Metric, inputs: _ScorerInputs) -> Any:
    if metric.binary_only and not inputs.target.binary:
        return None
    try:
        return _call(metric, inputs)
    except PipelineError:
        raise
    except Exception as exc:  # a scorer of another package may raise anything
        if metric.name in METRICS:
            raise
        raise ExtensionError(
            f"the scorer of metric {metric.name!r} fails",
            where=metric.scorer,
            expected="a float, or None or NaN where the rows do not define the metric",
            got=f"{type(exc).__name__}: {exc}",
            fix="correct the scorer",
        ) from exc


def _call_user_code(metric: Metric, inputs: _ScorerInputs) -> float | None:
    function = load_code(metric.scorer, where="gate.metric")
    predictions = inputs.labels if metric.needs == "labels" else inputs.predictions
    with user_code_errors(metric.scorer, "gate.metric"):
        value = function(inputs.truth.copy(), predictions.copy())
    if value is not None and not isinstance(value, float | int | np.number):
        raise UserCodeError(
            f"{metric.scorer} returns no number",
            where="gate.metric",
            expected="a number, or None where the rows do not define the metric",
            got=type(value).__name__,
            fix="return one number for all rows",
        )
    return None if value is None else float(value)


def _call(metric: Metric, inputs: _ScorerInputs) -> Any:
    if metric_function(metric.name) is not None:
        return _call_user_code(metric, inputs)
    scorer = import_object(metric.scorer)
    match metric.needs:
        case "confusion":
            return scorer(inputs.confusion, inputs.target.binary)
        case "ranking":
            values = [scorer(*ranking) for ranking in inputs.rankings]
            return np.mean(values) if values else None
        case "labels":
            return scorer(inputs.truth, inputs.labels)
        case "probabilities" | "values":
            return scorer(inputs.truth, inputs.predictions)
    raise ExtensionError(
        f"metric {metric.name!r} declares unknown needs",
        expected="labels, probabilities, values, confusion or ranking",
        got=repr(metric.needs),
        fix="correct the row of the metric",
    )


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def sort_by_score(positive: Array, scores: Array) -> tuple[Array, Array]:
    """Return both arrays from the highest score down. Sorted rows save time when scikit-learn sorts them again."""
    order = np.argsort(-scores, kind="stable")
    return positive[order], scores[order]


def confusion_matrix(truth: Array, predicted: Array, labels: int) -> Array:
    """Return how often each label, by row, was predicted as each label, by column."""
    cells = (truth * labels + predicted).astype(np.int64)  # truth may be of any integer type
    return np.bincount(cells, minlength=labels**2).reshape(labels, labels)


def roc_auc(positive: Array, scores: Array) -> float:
    """Return the area under the ROC curve."""
    false_rate, true_rate, _ = metrics.roc_curve(positive, scores)
    return float(metrics.auc(false_rate, true_rate))  # as roc_auc_score, without its second encoding of the labels


def average_precision(positive: Array, scores: Array) -> float:
    """Return the average precision."""
    return float(metrics.average_precision_score(positive, scores))


def accuracy(confusion: Array, binary: bool) -> float:
    """Return the share of correct labels."""
    return float(metrics.accuracy_score(**_cells(confusion)))


def balanced_accuracy(confusion: Array, binary: bool) -> float | None:
    """Return the mean recall over the labels that occur; None if only one occurs."""
    present = np.flatnonzero(confusion.sum(axis=1))
    if len(present) < 2:
        return None
    if binary:
        return float(metrics.balanced_accuracy_score(**_cells(confusion)))
    return float(metrics.recall_score(**_cells(confusion), labels=present, average="macro", zero_division=0.0))


def f1(confusion: Array, binary: bool) -> float | None:
    """Return F1 of the positive label, or the mean over all labels; None without a positive row."""
    return float(metrics.f1_score(**_cells(confusion), **_average(binary))) if _defined(confusion, binary) else None


def precision(confusion: Array, binary: bool) -> float:
    """Return the precision of the positive label, or the mean over all labels."""
    return float(metrics.precision_score(**_cells(confusion), **_average(binary)))


def recall(confusion: Array, binary: bool) -> float | None:
    """Return the recall of the positive label, or the mean over all labels; None without a positive row."""
    return float(metrics.recall_score(**_cells(confusion), **_average(binary))) if _defined(confusion, binary) else None


def _defined(confusion: Array, binary: bool) -> bool:
    return not binary or bool(confusion[1].any())


def _average(binary: bool) -> dict[str, Any]:
    return {"average": "binary" if binary else "macro", "zero_division": 0.0}


def _cells(confusion: Array) -> dict[str, Array]:
    """Return one weighted row for each cell of a confusion matrix: scikit-learn computes the same from these rows."""
    true, predicted = np.nonzero(confusion)
    return {"y_true": true, "y_pred": predicted, "sample_weight": confusion[true, predicted]}


def log_loss(truth: Array, probabilities: Array) -> float:
    """Return the log loss."""
    if probabilities.ndim == 1:
        return float(metrics.log_loss(truth, probabilities, labels=[0, 1]))
    # Rounding alone can keep a row from a sum of one, which scikit-learn refuses.
    shares = probabilities / probabilities.sum(axis=1, keepdims=True)
    return float(metrics.log_loss(truth, shares, labels=range(probabilities.shape[1])))


def brier(truth: Array, probabilities: Array) -> float:
    """Return the Brier score of two classes."""
    return float(metrics.brier_score_loss(truth, probabilities, labels=[0, 1]))


def r2(truth: Array, predictions: Array) -> float | None:
    """Return the coefficient of determination; None if all true values are equal."""
    return float(metrics.r2_score(truth, predictions)) if np.ptp(truth) > 0 else None


def rmse(truth: Array, predictions: Array) -> float:
    """Return the root mean squared error."""
    return float(metrics.root_mean_squared_error(truth, predictions))


def mae(truth: Array, predictions: Array) -> float:
    """Return the mean absolute error."""
    return float(metrics.mean_absolute_error(truth, predictions))


def median_ae(truth: Array, predictions: Array) -> float:
    """Return the median absolute error."""
    return float(metrics.median_absolute_error(truth, predictions))
