"""Metrics of many confusion matrices at once: the statistics of the resampling scheme `confusion`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LabelCounts", "accuracy", "balanced_accuracy", "f1", "precision", "recall"]

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """Counts of labels in many resamples of the same rows.

    Attributes:
        correct: rows of each label that are predicted correctly, shape (draws, labels).
        predicted: rows that are predicted as each label, shape (draws, labels).
        actual: rows of each label, shape (labels,) if they are the same in every draw, else (draws, labels).
        binary: label 1 is the positive one of two; else per-label metrics are averaged over the labels that occur.
    """

    correct: Array
    predicted: Array
    actual: Array
    binary: bool

    def over_labels(self, per_label: Array) -> Array:
        """Return the value of the positive label, or the mean over the labels that occur, shape (draws,)."""
        if self.binary:
            return per_label[:, 1]
        occurring = (self.predicted + self.actual > 0).sum(axis=1)
        mean: Array = per_label.sum(axis=1) / occurring
        return mean


def accuracy(counts: LabelCounts) -> Array:
    """Return the accuracy of each draw, shape (draws,)."""
    share: Array = counts.correct.sum(axis=1) / counts.actual.sum(axis=-1)
    return share


def balanced_accuracy(counts: LabelCounts) -> Array:
    """Return the mean recall over the labels that occur, shape (draws,)."""
    mean: Array = _recalls(counts).sum(axis=1) / (counts.actual > 0).sum(axis=-1)
    return mean


def recall(counts: LabelCounts) -> Array:
    """Return the recall of each draw, shape (draws,)."""
    return counts.over_labels(_recalls(counts))


def precision(counts: LabelCounts) -> Array:
    """Return the precision of each draw, shape (draws,)."""
    return counts.over_labels(_ratio(counts.correct, counts.predicted))


def f1(counts: LabelCounts) -> Array:
    """Return F1 of each draw, shape (draws,)."""
    return counts.over_labels(_ratio(2 * counts.correct, counts.predicted + counts.actual))


def _recalls(counts: LabelCounts) -> Array:
    return _ratio(counts.correct, np.broadcast_to(counts.actual, counts.correct.shape))


def _ratio(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
