"""Tune the decision threshold of a model on rows that it was not fitted on.

Between two neighbouring probabilities the labels are the same, so one threshold per interval is tried: 0.5 in its own
interval, else the middle. All of them are evaluated at once. Among equally good ones the nearest to 0.5 is selected. So
the result depends on neither chance nor the order of the rows, and is never worse on these rows than an allowed 0.5.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_pipelines.evaluation.confusion_metrics import LabelCounts, accuracy, balanced_accuracy, f1, precision, recall
from ml_pipelines.evaluation.target_schema import THRESHOLD
from ml_pipelines.modeling.records import TunedThreshold
from ml_pipelines.spec.threshold import Threshold

__all__ = ["tune_threshold"]

Array = NDArray[Any]
_ROUNDING = 1e-12  # difference of equal scores
_METRICS = {metric.__name__: metric for metric in (accuracy, balanced_accuracy, f1, precision, recall)}


def tune_threshold(truth: Array, probabilities: Array, declared: Threshold) -> TunedThreshold:
    """Return the best threshold for the declared objective, or 0.5 with the reason why there is none.

    Args:
        truth: 1 for a positive row, else 0, shape (rows,).
        probabilities: of the positive label, shape (rows,).
        declared: the objective.
    """
    if len(np.unique(truth)) < 2:
        return _default(declared, truth, "all validation rows have the same label")
    thresholds = _thresholds(probabilities)
    counts = _label_counts(truth, probabilities, thresholds)
    scores, default = _scores(counts, declared), int(np.flatnonzero(thresholds == THRESHOLD)[0])
    allowed = np.ones(len(thresholds), dtype=bool)
    for name, limit in declared.limits.items():
        reached = _METRICS[name](counts)
        allowed &= reached >= limit - _ROUNDING
        if not allowed.any():
            problem = f"no threshold reaches a {name} of {limit:g} on the validation rows, the highest is"
            return _default(declared, truth, f"{problem} {reached.max():.3g}", abs(float(scores[default])))
    best = allowed & (scores >= scores[allowed].max() - _ROUNDING)
    chosen = min(np.flatnonzero(best).tolist(), key=lambda index: abs(thresholds[index] - THRESHOLD))
    return TunedThreshold(
        value=float(thresholds[chosen]),
        objective=declared.objective,
        rows=len(truth),
        score=abs(float(scores[chosen])),
        default_score=abs(float(scores[default])),
    )


def _default(declared: Threshold, truth: Array, problem: str, score: float | None = None) -> TunedThreshold:
    return TunedThreshold(
        value=THRESHOLD,
        objective=declared.objective,
        rows=len(truth),
        score=score,
        default_score=score,
        problem=problem,
    )


def _thresholds(probabilities: Array) -> Array:
    """Return one threshold of each interval with the same labels, ascending; 0.5 is one of them."""
    distinct = np.unique(probabilities)
    upper = np.append(distinct, 1.0) if distinct[-1] < 1 else distinct
    lower = np.concatenate([[0.0], distinct])[: len(upper)]
    # Some libraries predict single precision, and compare in it.
    middle = ((lower + upper) / 2).astype(np.float32).astype(np.float64)
    thresholds = np.where((lower < middle) & (middle <= upper), middle, upper)
    first = np.arange(len(upper)) == 0
    contains_default = ((lower < THRESHOLD) | first) & (upper >= THRESHOLD)
    thresholds[contains_default] = THRESHOLD
    return thresholds


def _label_counts(truth: Array, probabilities: Array, thresholds: Array) -> LabelCounts:
    """Count the labels of the rows at each threshold."""
    rows, positives = len(truth), int(truth.sum())
    predicted = rows - np.searchsorted(np.sort(probabilities), thresholds)
    hits = positives - np.searchsorted(np.sort(probabilities[truth == 1]), thresholds)
    correct = np.stack([rows - positives - (predicted - hits), hits], axis=1).astype(np.float64)
    answers = np.stack([rows - predicted, predicted], axis=1)
    return LabelCounts(correct, answers, np.array([rows - positives, positives]), binary=True)


def _scores(counts: LabelCounts, declared: Threshold) -> Array:
    """Return the objective at each threshold; higher is better, so costs are negative."""
    if declared.minimise_cost is None:
        return _METRICS[str(declared.maximise)](counts)
    costs = declared.minimise_cost
    misses = counts.actual - counts.correct  # false positives, and false negatives
    mean: Array = misses @ np.array([costs.false_positive, costs.false_negative]) / counts.actual.sum()
    return -mean
