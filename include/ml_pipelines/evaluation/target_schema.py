"""The labels of a target, as numbers, and the predictions that belong to them.

*Truth* is the output of :func:`encode_labels`. *Predictions* are the output of
:func:`ml_pipelines.modeling.features.predict`, after :func:`validate_predictions`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_pipelines.errors import DataError, ModelError
from ml_pipelines.spec.metrics import Task

__all__ = [
    "THRESHOLD",
    "TargetSchema",
    "dummy_predictions",
    "encode_labels",
    "predicted_labels",
    "validate_predictions",
]

Array = NDArray[Any]

THRESHOLD = 0.5  # a probability of at least this predicts the positive label


@dataclass(frozen=True, slots=True)
class TargetSchema:
    """The task and the labels of a target.

    Attributes:
        task: classification or regression.
        classes: the labels of the training rows, in the order of the model's probabilities; empty for a regression.
        positive: the positive label; None unless there are two classes.
        unseen: labels of the evaluated rows that no training row has; models give them no probability.
    """

    task: Task
    classes: tuple[Any, ...] = ()
    positive: Any = None
    unseen: tuple[Any, ...] = ()

    @classmethod
    def of(cls, training: Mapping[str, Any], labels: Iterable[Any]) -> TargetSchema:
        """Return the schema of a training record and all labels of the evaluated rows.

        Raises:
            DataError: the training rows have two classes and the evaluated rows a third one.
        """
        classes = tuple(training["classes"] or ())
        unseen = tuple(sorted(set(labels) - set(classes), key=str)) if classes else ()
        if unseen and training["positive"] is not None:
            raise DataError(
                f"label {unseen[0]!r} occurs in the test set but not among the training rows",
                expected=f"one of {', '.join(map(repr, classes))}",
                got=repr(unseen[0]),
                fix="correct the label, or split so that every label occurs in training",
            )
        return cls(training["task"], classes, training["positive"], unseen)

    @property
    def labels(self) -> tuple[Any, ...]:
        """All labels, those of the training rows first."""
        return self.classes + self.unseen

    @property
    def binary(self) -> bool:
        """Whether there are exactly two classes."""
        return self.positive is not None


def encode_labels(target: TargetSchema, labels: Sequence[Any]) -> Array:
    """Return labels as numbers, shape (rows,).

    Two classes: 1 for the positive one, else 0. More classes: indices into `target.labels`. Regression: the values.

    Raises:
        DataError: a value of a regression is not finite.
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
        ModelError: they have the wrong shape, or are not finite.
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
            got=f"{invalid} of {predictions.size} are not",
            fix="choose another estimator, or parameters that keep it from diverging",
        )
    return np.pad(predictions, ((0, 0), (0, len(target.unseen)))) if len(shape) == 2 else predictions


def predicted_labels(target: TargetSchema, predictions: Array) -> Array:
    """Return the predicted labels as numbers, shape (rows,), from probabilities."""
    return (predictions >= THRESHOLD).astype(np.int64) if target.binary else predictions.argmax(axis=1)


def dummy_predictions(target: TargetSchema, training: Mapping[str, Any], rows: int) -> Array:
    """Return the dummy baseline's predictions: the share of each class, or the mean of the target."""
    summary = training["target_summary"]
    if not target.classes:
        return np.full(rows, float(summary["mean"]))
    share = summary["share"]
    if target.binary:
        return np.full(rows, float(share[str(target.positive)]))
    prior = [float(share[str(label)]) for label in target.classes] + [0.0] * len(target.unseen)
    return np.tile(prior, (rows, 1))
