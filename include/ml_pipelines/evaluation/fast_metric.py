"""The value of a metric on the rows themselves, from the statistic of its resampling scheme.

It equals that of the scorer, see :mod:`ml_pipelines.evaluation.scorers`, in a tenth of the time for few rows.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_pipelines._utils.imports import import_object
from ml_pipelines.evaluation.confusion_metrics import LabelCounts
from ml_pipelines.evaluation.resampling_schemes import Sample, weighted_estimator
from ml_pipelines.evaluation.scorers import compute_metrics
from ml_pipelines.evaluation.target_schema import TargetSchema, predicted_labels
from ml_pipelines.spec.metric_table import Metric

__all__ = ["value_of"]

Array = NDArray[Any]


def value_of(target: TargetSchema, truth: Array, predictions: Array, metric: Metric) -> float:
    """Return the metric of all rows; NaN where its scorer does not define it."""
    if metric.binary_only and not target.binary:
        return math.nan
    match metric.resampling:
        case "ranking" | "row_sums":
            sample = Sample(target, truth, {"model": predictions}, [(0, len(truth))])
            return float(weighted_estimator(sample, "model", [metric])(np.ones((1, len(truth))))[metric.name][0])
        case "median":
            return float(np.median(import_object(metric.statistic or "")(truth, predictions)))
        case "confusion":
            return float(import_object(metric.statistic or "")(_counts(target, truth, predictions))[0])
    value = compute_metrics(target, truth, predictions, [metric])[metric.name]
    return math.nan if value is None else value


def _counts(target: TargetSchema, truth: Array, predictions: Array) -> LabelCounts:
    labels, predicted = 2 if target.binary else len(target.labels), predicted_labels(target, predictions)
    correct, answers, actual = (
        np.bincount(values, minlength=labels) for values in (truth[truth == predicted], predicted, truth)
    )
    return LabelCounts(correct[None].astype(np.float64), answers[None], actual, target.binary)
