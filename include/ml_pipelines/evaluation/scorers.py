"""How good scores are: metrics, curves and confusion, computed by scikit-learn, as plain numbers.

*Predictions* are the output of :func:`ml_pipelines.modeling.features.predict`, *truth* that of :func:`encode_labels`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics
from sklearn.calibration import calibration_curve

from ml_pipelines.contracts import JsonValue
from ml_pipelines.errors import DataError, ModelError
from ml_pipelines.spec.metrics import Task, metrics_of

__all__ = [
    "THRESHOLD",
    "MetricValues",
    "TargetSchema",
    "compute_metrics",
    "curves_and_confusion",
    "dummy_predictions",
    "encode_labels",
    "validate_predictions",
]

Array = NDArray[Any]
MetricValues = dict[str, float | None]

THRESHOLD = 0.5  # a probability from here on counts as a hit
CURVE_POINTS = 200
CALIBRATION_BINS = 10
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, slots=True)
class TargetSchema:
    """What is predicted.

    Attributes:
        task: classification or regression.
        classes: the labels that the models tell apart, in the order of their scores; empty for a regression.
        positive: the label that counts as a hit; None unless there are two classes.
        unseen: labels that occur in the holdout alone; a model of three classes or more gives them no probability.
    """

    task: Task
    classes: tuple[Any, ...] = ()
    positive: Any = None
    unseen: tuple[Any, ...] = ()

    @classmethod
    def of(cls, training: Mapping[str, Any], labels: Iterable[Any]) -> TargetSchema:
        """From a training's record and all labels of the holdout.

        Raises:
            DataError: the models tell two classes apart and the holdout has a third.
        """
        classes = tuple(training["classes"] or ())
        unseen = tuple(sorted(set(labels) - set(classes), key=str)) if classes else ()
        if unseen and training["positive"] is not None:
            raise DataError(
                f"label {unseen[0]!r} occurs in the holdout but not among the training rows",
                expected=f"one of {', '.join(map(repr, classes))}",
                got=repr(unseen[0]),
                fix="correct the label, or split so that every label occurs in training",
            )
        return cls(training["task"], classes, training["positive"], unseen)

    @property
    def labels(self) -> tuple[Any, ...]:
        """All labels, those of the models first."""
        return self.classes + self.unseen

    @property
    def binary(self) -> bool:
        """Are there exactly two classes?"""
        return self.positive is not None


def encode_labels(target: TargetSchema, labels: Sequence[Any]) -> Array:
    """Labels as numbers, shape (n,): 1 for a hit of two classes, an index into `problem.labels`, or the target itself.

    Raises:
        DataError: the target of a regression is not finite.
    """
    if target.binary:
        return np.array([label == target.positive for label in labels], dtype=np.int64)
    if target.classes:
        index = {label: position for position, label in enumerate(target.labels)}
        return np.array([index[label] for label in labels], dtype=np.int64)
    truth = np.array([math.nan if label is None else label for label in labels], dtype=np.float64)
    if not np.isfinite(truth).all():
        raise DataError(
            "the target of the holdout has cells that are not finite numbers",
            got=f"{int((~np.isfinite(truth)).sum())} of {len(truth)} rows",
            fix="have the quality checks set such rows aside",
        )
    return truth


def validate_predictions(target: TargetSchema, score: Array, rows: int) -> Array:
    """A model's score, with a column of zeros for each unseen label.

    Raises:
        ModelError: it has the wrong shape, or is not finite.
    """
    shape = (rows, len(target.classes)) if target.classes and not target.binary else (rows,)
    if score.shape != shape:
        raise ModelError(
            "the model's predictions have the wrong shape", expected=f"shape {shape}", got=f"shape {score.shape}"
        )
    if bad := int((~np.isfinite(score)).sum()):
        raise ModelError(
            "the model's predictions are not finite numbers",
            expected="a finite number in every row",
            got=f"{bad} of {score.size} are not",
            fix="choose another estimator, or parameters that keep it from diverging",
        )
    return np.pad(score, ((0, 0), (0, len(target.unseen)))) if len(shape) == 2 else score


def dummy_predictions(target: TargetSchema, training: Mapping[str, Any], rows: int) -> Array:
    """The score of a model that has only learned how often each class occurs, or the mean of the target."""
    summary = training["target_summary"]
    if not target.classes:
        return np.full(rows, float(summary["mean"]))
    share = summary["share"]
    if target.binary:
        return np.full(rows, float(share[str(target.positive)]))
    prior = [float(share[str(label)]) for label in target.classes] + [0.0] * len(target.unseen)
    return np.tile(prior, (rows, 1))


def compute_metrics(target: TargetSchema, truth: Array, score: Array) -> MetricValues:
    """All metrics of the task; None for one that these rows can't tell, such as ROC-AUC of a single class."""
    if target.binary:
        found = _binary(truth, score)
    elif target.classes:
        found = _multiclass(truth, score)
    else:
        found = _regression(truth, score)
    return {metric.name: _finite(found.get(metric.name)) for metric in metrics_of(target.task)}


def curves_and_confusion(target: TargetSchema, truth: Array, score: Array) -> dict[str, JsonValue]:
    """`curves` and `confusion` of the same rows. Of three classes or more there are no curves."""
    if not target.classes:
        return {"curves": {"residuals": _residuals(truth, score)}, "confusion": None}
    if not target.binary:
        return {"curves": {}, "confusion": _confusion(target.labels, truth, score.argmax(axis=1))}
    negative = next(label for label in target.classes if label != target.positive)
    confusion = _confusion((negative, target.positive), truth, (score >= THRESHOLD).astype(np.int64))
    return {"curves": _curves(truth, score), "confusion": confusion}


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _binary(truth: Array, score: Array) -> dict[str, Any]:
    told = _cells(truth, (score >= THRESHOLD).astype(np.int64), labels=2)
    hits = bool(truth.any())
    both = hits and not truth.all()
    return {
        **(_ranking(truth, score) if both else {}),
        "accuracy": metrics.accuracy_score(**told),
        "balanced_accuracy": metrics.balanced_accuracy_score(**told) if both else None,
        "f1": metrics.f1_score(**told, zero_division=0.0) if hits else None,
        "precision": metrics.precision_score(**told, zero_division=0.0),
        "recall": metrics.recall_score(**told) if hits else None,
        "log_loss": metrics.log_loss(truth, score, labels=[0, 1]),
        "brier": metrics.brier_score_loss(truth, score, labels=[0, 1]),
    }


def _multiclass(truth: Array, score: Array) -> dict[str, Any]:
    """Each class against the rest, every class that occurs weighing the same."""
    labels = score.shape[1]
    told = _cells(truth, score.argmax(axis=1), labels)
    present = np.unique(truth)
    several = len(present) > 1
    macro = {"average": "macro", "zero_division": 0.0}
    ranked = [_ranking(truth == label, score[:, label]) for label in present] if several else []
    return {
        **{name: np.mean([each[name] for each in ranked]) for name in (ranked[0] if ranked else ())},
        "accuracy": metrics.accuracy_score(**told),
        "balanced_accuracy": metrics.recall_score(**told, labels=present, **macro) if several else None,
        "f1": metrics.f1_score(**told, **macro),
        "precision": metrics.precision_score(**told, **macro),
        "recall": metrics.recall_score(**told, **macro),
        # Rounding alone can keep a row from summing to one, which log_loss refuses.
        "log_loss": metrics.log_loss(truth, score / score.sum(axis=1, keepdims=True), labels=range(labels)),
    }


def _ranking(hit: Array, score: Array) -> dict[str, Any]:
    """Sorted once: scikit-learn sorts for each of them, which takes no time on what is in order."""
    hit, score = _falling(hit, score)
    false_rate, true_rate, _ = metrics.roc_curve(hit, score)
    return {
        "roc_auc": metrics.auc(false_rate, true_rate),  # as roc_auc_score does, after it has encoded the labels again
        "average_precision": metrics.average_precision_score(hit, score),
    }


def _falling(hit: Array, score: Array) -> tuple[Array, Array]:
    order = np.argsort(-score, kind="stable")
    return hit[order], score[order]


def _cells(truth: Array, predicted: Array, labels: int) -> dict[str, Array]:
    """The rows of a confusion matrix, one a cell: what scikit-learn computes from them it would from all rows."""
    matrix = _matrix(truth, predicted, labels)
    true, told = np.nonzero(matrix)
    return {"y_true": true, "y_pred": told, "sample_weight": matrix[true, told]}


def _matrix(truth: Array, predicted: Array, labels: int) -> Array:
    """How often each label, by row, was predicted as each."""
    cells = (truth * labels + predicted).astype(np.int64)  # truth may be whole numbers of any type
    return np.bincount(cells, minlength=labels**2).reshape(labels, labels)


def _regression(truth: Array, score: Array) -> dict[str, Any]:
    return {
        "r2": metrics.r2_score(truth, score) if np.ptp(truth) > 0 else None,
        "rmse": metrics.root_mean_squared_error(truth, score),
        "mae": metrics.mean_absolute_error(truth, score),
        "median_ae": metrics.median_absolute_error(truth, score),
    }


def _curves(truth: Array, score: Array) -> dict[str, JsonValue]:
    if not 0 < truth.sum() < len(truth):
        return {}
    falling = _falling(truth, score)
    false_rate, true_rate, _ = metrics.roc_curve(*falling)
    precision, recall, _ = metrics.precision_recall_curve(*falling)
    observed, predicted = calibration_curve(truth, score, n_bins=CALIBRATION_BINS, strategy="quantile")
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
    return {"labels": list(labels), "matrix": _matrix(truth, predicted, len(labels)).tolist()}


def _residuals(truth: Array, score: Array) -> dict[str, JsonValue]:
    """Truth minus prediction: summary, and some points of it over the prediction."""
    residuals = truth - score
    quantiles = np.quantile(residuals, QUANTILES)
    return {
        "mean": float(residuals.mean()),
        "std": float(residuals.std()),
        "quantiles": {str(q): float(value) for q, value in zip(QUANTILES, quantiles, strict=True)},
        **_thinned(score, residuals),
    }
