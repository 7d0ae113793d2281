"""The labels of a target as numbers, and the predictions for these labels.

*Truth* is the output of :func:`encode_labels`. *Predictions* are the output of
:func:`ml_pipelines.modeling.features.predict`, after :func:`validate_predictions`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ml_pipelines.errors import DataError, ModelError
from ml_pipelines.spec.metric_table import Task

__all__ = [
    "THRESHOLD",
    "TargetSchema",
    "constant_part",
    "encode_labels",
    "predicted_labels",
    "validate_predictions",
]

Array = NDArray[Any]

ROUNDING = 1e-12  # relative difference of equal predictions
THRESHOLD = 0.5  # a probability of at least this predicts the positive label


@dataclass(frozen=True, slots=True)
class TargetSchema:
    """The task and the labels of a target, and the decision thresholds of the models that predict it.

    Attributes:
        task: classification or regression.
        classes: the labels of the training rows, in the order of the model's probabilities; empty for a regression.
        positive: the positive label, or None if the number of classes is not two.
        unseen: labels of evaluated rows that no training row has. Models predict no probability for these labels.
        threshold: a probability of at least this predicts the positive label.
        thresholds: the same of each model, by name; others have `threshold`.
    """

    task: Task
    classes: tuple[Any, ...] = ()
    positive: Any = None
    unseen: tuple[Any, ...] = ()
    threshold: float = THRESHOLD
    thresholds: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, training: Mapping[str, Any], labels: Iterable[Any]) -> TargetSchema:
        """Return the schema from a training record and from all labels of the evaluated rows.

        Raises:
            DataError: the training rows have two classes, and an evaluated row has a third label.
        """
        classes = tuple(training["classes"] or ())
        unseen = tuple(sorted(set(labels) - set(classes), key=str)) if classes else ()
        if unseen and training["positive"] is not None:
            raise DataError(
                f"label {unseen[0]!r} occurs in the test set but not among the training rows",
                expected=f"one of {', '.join(map(repr, classes))}",
                got=repr(unseen[0]),
                fix="correct the label, or choose a split that puts rows of every label into training",
            )
        return cls(training["task"], classes, training["positive"], unseen)

    @property
    def labels(self) -> tuple[Any, ...]:
        """All labels. The labels of the training rows come first."""
        return self.classes + self.unseen

    def with_threshold(self, threshold: float | None) -> TargetSchema:
        """Return the schema for the predictions of a model with this threshold, by default the usual one."""
        return replace(self, threshold=THRESHOLD if threshold is None else threshold)

    def with_thresholds(self, thresholds: Mapping[str, float | None]) -> TargetSchema:
        """Return the schema for the predictions of several models, each with its threshold or the usual one."""
        return replace(self, thresholds={model: value for model, value in thresholds.items() if value is not None})

    def of_model(self, model: str) -> TargetSchema:
        """Return the schema for the predictions of a model of :attr:`thresholds`."""
        return self.with_threshold(self.thresholds.get(model, self.threshold))

    @property
    def binary(self) -> bool:
        """Whether there are exactly two classes."""
        return self.positive is not None


def encode_labels(target: TargetSchema, labels: Sequence[Any]) -> Array:
    """Return labels as numbers, shape (rows,).

    With two classes, the positive label is 1 and the other label is 0. With more classes, a number is an index into
    `target.labels`. In a regression, the numbers are the values.

    Raises:
        DataError: the target of a regression has a value that is not finite.
    """
    if target.binary:
        return np.array([label == target.positive for label in labels], dtype=np.int64)
    if target.classes:
        index = {label: position for position, label in enumerate(target.labels)}
        return np.array([index[label] for label in labels], dtype=np.int64)
    truth = np.array([math.nan if label is None else label for label in labels], dtype=np.float64)
    if not np.isfinite(truth).all():
        raise DataError(
            "the target of the test set has cells that are not finite numbers",
            got=f"{int((~np.isfinite(truth)).sum())} of {len(truth)} rows",
            fix="quarantine such rows with a quality check",
        )
    return truth


def validate_predictions(target: TargetSchema, predictions: Array, rows: int) -> Array:
    """Return a model's predictions, with a column of zeros for each unseen label.

    Raises:
        ModelError: the predictions have the wrong shape, or are not finite.
    """
    shape = (rows, len(target.classes)) if target.classes and not target.binary else (rows,)
    if predictions.shape != shape:
        raise ModelError(
            "the model's predictions have the wrong shape", expected=f"shape {shape}", got=f"shape {predictions.shape}"
        )
    if invalid := int((~np.isfinite(predictions)).sum()):
        raise ModelError(
            "the model's predictions are not finite numbers",
            expected="a finite number in every row",
            got=f"{invalid} of {predictions.size} numbers are not finite",
            fix="choose another estimator, or parameters with which the estimator converges",
        )
    return np.pad(predictions, ((0, 0), (0, len(target.unseen)))) if len(shape) == 2 else predictions


def predicted_labels(target: TargetSchema, predictions: Array) -> Array:
    """Return the predicted labels as numbers, shape (rows,), from probabilities."""
    return (predictions >= target.threshold).astype(np.int64) if target.binary else predictions.argmax(axis=1)


def constant_part(target: TargetSchema, predictions: Array) -> Literal["predictions", "labels"] | None:
    """Return which part is the same for all rows: the predictions (up to rounding), the predicted labels, or None."""
    if np.ptp(predictions, axis=0).max() <= ROUNDING * np.abs(predictions).max():
        return "predictions"
    if target.classes and np.ptp(predicted_labels(target, predictions)) == 0:
        return "labels"
    return None
