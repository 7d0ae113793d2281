"""The dummy baseline: the best constant prediction for a metric, fitted on the training rows.

A metric names its constant, see :class:`ml_pipelines.spec.metric_table.Metric`.

* `mean` minimises squared errors. `median` minimises absolute errors.
* `shortest_half` minimises the median absolute error. It is the middle of the shortest interval with half of the rows.
  See Rousseeuw 1984, https://doi.org/10.1080/01621459.1984.10477105.
* `shares` predicts the share of each class, which minimises log loss and Brier score. Rankings of a constant are equal.
* `label` is the label with the best metric if all rows have it as their prediction; the most frequent one of equals.
* `search` tries the constants above, and for a regression also :data:`QUANTILES` quantiles. The scorer chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_pipelines._utils.imports import import_object
from ml_pipelines.errors import ExtensionError
from ml_pipelines.evaluation.fast_metric import value_of
from ml_pipelines.evaluation.target_schema import TargetSchema
from ml_pipelines.spec.metric_table import Metric

__all__ = ["QUANTILES", "constant_predictions", "fit_dummy"]

Array = NDArray[Any]
Fit = Callable[[TargetSchema, Array, Metric], Array]

QUANTILES = 199  # of the target, as constants to try


def fit_dummy(target: TargetSchema, truth: Array, metric: Metric) -> Array:
    """Return the best constant prediction: a number or probability, or the probability of each label.

    Args:
        target: task and labels.
        truth: of the training rows, shape (rows,).
        metric: names its constant. The function of another package has the arguments of this one.

    Raises:
        ExtensionError: the metric names an unknown constant, or its scorer fails.
    """
    if ":" in metric.dummy:
        return np.asarray(import_object(metric.dummy)(target, truth, metric), dtype=np.float64)
    if (fit := _CONSTANTS.get(metric.dummy)) is None:
        raise ExtensionError(
            f"metric {metric.name!r} declares an unknown dummy baseline",
            expected=f"one of {', '.join(_CONSTANTS)}, or the import path of a function",
            got=repr(metric.dummy),
            fix="correct the row of the metric",
        )
    return fit(target, truth, metric)


def constant_predictions(constant: Array, rows: int) -> Array:
    """Return the same prediction for all rows, shape (rows,) or (rows, labels)."""
    return np.repeat(np.asarray(constant, dtype=np.float64)[None], rows, axis=0)


def _mean(target: TargetSchema, truth: Array, metric: Metric) -> Array:
    return np.asarray(truth.mean())


def _median(target: TargetSchema, truth: Array, metric: Metric) -> Array:
    return np.asarray(np.median(truth))


def _shortest_half(target: TargetSchema, truth: Array, metric: Metric) -> Array:
    """The middle of the shortest half: no other constant has a smaller median absolute error.

    The median of an even number of errors is the mean of two. The second one is that of the next row outside.
    """
    ascending, half = np.sort(truth), (len(truth) + 1) // 2
    first, last = ascending[: len(truth) - half + 1], ascending[half - 1 :]
    middle, error = (first + last) / 2, (last - first) / 2
    if len(truth) % 2 == 0:
        outside = np.concatenate([[-np.inf], ascending, [np.inf]])
        error = error + np.minimum(middle - outside[: len(first)], outside[half + 1 :] - middle)
    return np.asarray(middle[np.argmin(error)])


def _shares(target: TargetSchema, truth: Array, metric: Metric) -> Array:
    if target.binary:
        return np.asarray(truth.mean())
    return _counts(target, truth) / len(truth)


def _label(target: TargetSchema, truth: Array, metric: Metric) -> Array:
    return _best(_labels(target, truth), target, truth, metric)


def _search(target: TargetSchema, truth: Array, metric: Metric) -> Array:
    return _best(_choices(target, truth, metric), target, truth, metric)


def _choices(target: TargetSchema, truth: Array, metric: Metric) -> Iterator[Array]:
    if target.classes:
        yield _shares(target, truth, metric)
        yield from _labels(target, truth)
        return
    for fit in (_mean, _median, _shortest_half):
        yield fit(target, truth, metric)
    yield from map(np.asarray, np.quantile(truth, np.arange(1, QUANTILES + 1) / (QUANTILES + 1)))


def _labels(target: TargetSchema, truth: Array) -> Iterator[Array]:
    """A certain prediction of each label, the most frequent one first."""
    for label in np.argsort(-_counts(target, truth), kind="stable"):
        yield np.asarray(float(label)) if target.binary else np.eye(len(target.labels))[label]


def _counts(target: TargetSchema, truth: Array) -> Array:
    return np.bincount(truth, minlength=len(target.labels)).astype(np.float64)


def _best(constants: Iterator[Array], target: TargetSchema, truth: Array, metric: Metric) -> Array:
    """The first of the best constants; one that does not define the metric is the last choice."""
    sign = 1.0 if metric.greater_is_better else -1.0

    def rank(constant: Array) -> float:
        value = sign * value_of(target, truth, constant_predictions(constant, len(truth)), metric)
        return -np.inf if np.isnan(value) else value

    return max(constants, key=rank)


_CONSTANTS: Mapping[str, Fit] = {
    "mean": _mean,
    "median": _median,
    "shortest_half": _shortest_half,
    "shares": _shares,
    "label": _label,
    "search": _search,
}
