"""The resampling schemes: how the bootstrap computes metrics on resamples.

A metric names its scheme, see :class:`ml_pipelines.spec.metric_table.Metric`. All models share the resamples of a
scheme, so that common errors cancel in differences.

* `confusion`: the counts of a confusion matrix are multinomial, so they are drawn directly, for any number of rows.
* `ranking` and `row_sums`: up to :data:`LINEAR_ROWS` rows, from the weight of each row in each draw. Above, from sums
  over rows, to which each row adds its influence: the linear bootstrap, or infinitesimal jackknife (Efron 1982).
* `median`: above :data:`LINEAR_ROWS` rows, from the rows whose rank is near the middle; else as `generic`.
* `generic`: the scorer on the rows of each resample, with at most :data:`GENERIC_DRAWS` draws.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_pipelines._utils.imports import import_object
from ml_pipelines.errors import ExtensionError
from ml_pipelines.evaluation.confusion_metrics import LabelCounts
from ml_pipelines.evaluation.ranking_metrics import (
    Ranking,
    RankingStatistic,
    WeightedRanking,
    influence_values,
    mean_of_defined,
)
from ml_pipelines.evaluation.resampling import BLOCK_CELLS, weight_blocks
from ml_pipelines.evaluation.row_influence import linear_resamples
from ml_pipelines.evaluation.row_sum_metrics import RowSumStatistic
from ml_pipelines.evaluation.scorers import compute_metrics
from ml_pipelines.evaluation.target_schema import TargetSchema, predicted_labels
from ml_pipelines.spec.metric_table import Metric

__all__ = [
    "GENERIC_DRAWS",
    "LINEAR_ROWS",
    "Draws",
    "Resampler",
    "Sample",
    "Scheme",
    "scheme_of",
    "statistic_of",
    "weighted_estimator",
]

Array = NDArray[Any]
Draws = dict[str, dict[str, Array]]  # metric -> model -> values, shape (draws,)

LINEAR_ROWS = 20_000  # above, a linear approximation is as good as the noise of 2000 draws
GENERIC_DRAWS = 500  # at most, of a metric that is computed on the rows themselves


@dataclass(frozen=True, slots=True)
class Sample:
    """Evaluated rows in the order of their classes.

    Attributes:
        target: task, labels and thresholds.
        truth: shape (rows,).
        predictions: of each model, shape (rows,) or (rows, labels).
        bounds: first and last row of each class; a regression is a single class.
        clusters: number of the group of each row, shape (rows,); None if the rows are independent.
    """

    target: TargetSchema
    truth: Array
    predictions: Mapping[str, Array]
    bounds: list[tuple[int, int]]
    clusters: Array | None = None

    @classmethod
    def of(
        cls, target: TargetSchema, truth: Array, predictions: Mapping[str, Array], clusters: Array | None = None
    ) -> Sample:
        """Sort rows by class."""
        if not target.classes:
            return cls(target, truth, predictions, [(0, len(truth))], clusters)
        order = np.argsort(truth, kind="stable")
        truth = truth[order]
        edges = [0, *(np.flatnonzero(np.diff(truth)) + 1).tolist(), len(truth)]
        by_model = {model: values[order] for model, values in predictions.items()}
        of_rows = clusters[order] if clusters is not None else None
        return cls(target, truth, by_model, list(itertools.pairwise(edges)), of_rows)

    @property
    def smallest_class(self) -> int:
        """Number of rows of the rarest class."""
        return min(last - first for first, last in self.bounds)


Resampler = Callable[[Sample, Sequence[Metric], int, np.random.Generator], Draws]
"""Computes metrics on a number of resamples."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """How to compute some metrics on resamples.

    Attributes:
        resample: computes them.
        stream: number of the random stream, so that the draws of a scheme do not depend on other metrics.
        max_draws: at most so many resamples.
    """

    resample: Resampler
    stream: int
    max_draws: float = math.inf


def scheme_of(metric: Metric, sample: Sample) -> Scheme:
    """Return the scheme that a metric declares, for the size of a sample.

    Raises:
        ExtensionError: the scheme is unknown, or the row lacks the statistic that it needs.
    """
    if ":" in metric.resampling:
        return Scheme(import_object(metric.resampling), stream=4)
    if (choose := _SCHEMES.get(metric.resampling)) is None:
        raise ExtensionError(
            f"metric {metric.name!r} declares an unknown resampling scheme",
            expected=f"one of {', '.join(_SCHEMES)}, or the import path of a function",
            got=repr(metric.resampling),
            fix="correct the row of the metric",
        )
    if metric.statistic is None and metric.resampling != "generic":
        raise ExtensionError(
            f"metric {metric.name!r} declares no statistic",
            expected=f"the import path of a statistic of the scheme {metric.resampling}",
            fix="add the statistic to the row of the metric, or declare the scheme 'generic'",
        )
    return choose(metric, sample)


def statistic_of(metric: Metric) -> Any:
    """Return the statistic that a metric declares."""
    return import_object(metric.statistic or "")


def _confusion_scheme(metric: Metric, sample: Sample) -> Scheme:
    return Scheme(_resample_confusion, stream=0)


def _weighted_or_linear(metric: Metric, sample: Sample) -> Scheme:
    smallest: int = getattr(statistic_of(metric), "min_class_rows", 0)
    if len(sample.truth) > LINEAR_ROWS and sample.smallest_class > smallest:
        return Scheme(_resample_sums, stream=3)
    return Scheme(_resample_weights, stream=1)


def _median_scheme(metric: Metric, sample: Sample) -> Scheme:
    if len(sample.truth) > LINEAR_ROWS:
        return Scheme(_resample_median, stream=2, max_draws=GENERIC_DRAWS)
    return _generic_scheme(metric, sample)


def _generic_scheme(metric: Metric, sample: Sample) -> Scheme:
    return Scheme(_resample_rows, stream=2, max_draws=GENERIC_DRAWS)


_SCHEMES: Mapping[str, Callable[[Metric, Sample], Scheme]] = {
    "generic": _generic_scheme,
    "confusion": _confusion_scheme,
    "ranking": _weighted_or_linear,
    "row_sums": _weighted_or_linear,
    "median": _median_scheme,
}


# --- counts


def _resample_confusion(sample: Sample, metrics: Sequence[Metric], draws: int, rng: np.random.Generator) -> Draws:
    """Draw how many rows of each class the models, together, predict as each combination of labels."""
    predicted = np.stack(
        [predicted_labels(sample.target.of_model(model), values) for model, values in sample.predictions.items()]
    )
    labels = 2 if sample.target.binary else len(sample.target.labels)
    totals = np.zeros((2, len(predicted), draws, labels))  # correct and predicted rows
    for first, last in sample.bounds:
        combinations, sizes = _distinct_columns(predicted[:, first:last])
        step = max(1, BLOCK_CELLS // len(sizes))
        for start in range(0, draws, step):
            block = slice(start, min(start + step, draws))
            drawn = rng.multinomial(last - first, sizes / (last - first), size=block.stop - start)
            for model, label in itertools.product(range(len(predicted)), range(labels)):
                rows = drawn[:, combinations[model] == label].sum(axis=1)
                totals[1, model, block, label] += rows
                totals[0, model, block, label] += rows * (label == sample.truth[first])
    actual = np.bincount(sample.truth, minlength=labels)
    by_model = {
        model: LabelCounts(correct, answers, actual, sample.target.binary)
        for model, correct, answers in zip(sample.predictions, *totals, strict=True)
    }
    statistics = {metric.name: statistic_of(metric) for metric in metrics}
    return {
        name: {model: statistic(counts) for model, counts in by_model.items()} for name, statistic in statistics.items()
    }


def _distinct_columns(table: Array) -> tuple[Array, Array]:
    """The distinct columns and their counts: `np.unique(table, axis=1)` without its slow comparison of records."""
    codes = np.zeros(table.shape[1], dtype=np.int64)
    for values in table:
        distinct, code = np.unique(values, return_inverse=True)
        codes = codes * len(distinct) + code
    _, first, counts = np.unique(codes, return_index=True, return_counts=True)
    return table[:, first], counts


# --- weights


def weighted_estimator(sample: Sample, model: str, metrics: Sequence[Metric]) -> Callable[[Array], dict[str, Array]]:
    """Return a function from weights, shape (draws, rows), to each metric, shape (draws,)."""
    truth, predictions = sample.truth, sample.predictions[model]
    statistics = {metric.name: statistic_of(metric) for metric in metrics}
    rankings = {name: row for name, row in statistics.items() if isinstance(row, RankingStatistic)}
    sums = {name: row for name, row in statistics.items() if isinstance(row, RowSumStatistic)}
    sorted_rows = [Ranking(*rows) for rows in _one_against_the_rest(sample, model)] if rankings else []
    terms = {name: statistic.terms(truth, predictions) for name, statistic in sums.items()}

    def estimate(weights: Array) -> dict[str, Array]:
        weighted = [WeightedRanking(ranking, weights) for ranking in sorted_rows]
        return {
            **{
                name: mean_of_defined([statistic.value(ranking) for ranking in weighted])
                for name, statistic in rankings.items()
            },
            **{name: statistic.value(weights @ terms[name], len(truth)) for name, statistic in sums.items()},
        }

    return estimate


def _one_against_the_rest(sample: Sample, model: str) -> list[tuple[Array, Array]]:
    truth, predictions = sample.truth, sample.predictions[model]
    if sample.target.binary:
        return [(truth == 1, predictions)]
    return [(truth == label, predictions[:, label]) for label in np.unique(truth)]


def _resample_weights(sample: Sample, metrics: Sequence[Metric], draws: int, rng: np.random.Generator) -> Draws:
    """Compute metrics from the weights of all rows, block by block."""
    estimators = {model: weighted_estimator(sample, model, metrics) for model in sample.predictions}
    values: dict[str, dict[str, list[Array]]] = {metric.name: {model: [] for model in estimators} for metric in metrics}
    for weights in weight_blocks(sample.bounds, draws, rng):
        for model, estimate in estimators.items():
            for name, block in estimate(weights).items():
                values[name][model].append(block)
    return {
        name: {model: np.concatenate(blocks) for model, blocks in by_model.items()} for name, by_model in values.items()
    }


# --- sums


def _resample_sums(sample: Sample, metrics: Sequence[Metric], draws: int, rng: np.random.Generator) -> Draws:
    """Compute metrics from sums over rows: those of the first model, and the difference of every other one from it.

    Differences are 0 where two models predict the same, so that equal models have equal draws.
    """
    by_model = [_linear_terms(sample, model, metrics) for model in sample.predictions]
    columns = [np.concatenate([*terms.values()], axis=1) for terms in by_model]
    totals = np.stack([model_columns.sum(axis=0) for model_columns in columns])
    for model_columns in columns[1:]:
        model_columns -= columns[0]
    shifts = linear_resamples(columns, sample.bounds, draws, rng)
    shifts[1:] += shifts[0]
    names, widths = [*by_model[0]], [terms.shape[1] for terms in by_model[0].values()]
    values: Draws = {name: {} for name in names}
    for model, sums in zip(sample.predictions, shifts + totals[:, None], strict=True):
        for metric, part in zip(metrics, np.split(sums, np.cumsum(widths)[:-1], axis=1), strict=True):
            values[metric.name][model] = _linear_value(metric, part, len(sample.truth))
    return values


def _linear_terms(sample: Sample, model: str, metrics: Sequence[Metric]) -> dict[str, Array]:
    """Terms of each row whose sums determine each metric, shape (rows, sums)."""
    terms = {}
    for metric in metrics:
        statistic = statistic_of(metric)
        if isinstance(statistic, RankingStatistic):
            by_label = [influence_values(*rows, [statistic]) for rows in _one_against_the_rest(sample, model)]
            terms[metric.name] = functools.reduce(np.add, by_label) / len(by_label)
        else:
            terms[metric.name] = statistic.terms(sample.truth, sample.predictions[model])
    return terms


def _linear_value(metric: Metric, sums: Array, rows: int) -> Array:
    statistic = statistic_of(metric)
    if isinstance(statistic, RowSumStatistic):
        return statistic.value(sums, rows)
    return np.clip(sums[:, 0], 0, 1)  # a normal distribution is unbounded, a metric of a ranking is not


# --- rows


def _resample_median(sample: Sample, metrics: Sequence[Metric], draws: int, rng: np.random.Generator) -> Draws:
    """Draw the rows that may become a median one by one, and only count all others below and above.

    The median of a draw is a row whose rank is n / 2, give or take sqrt(n) / 2; eight of these are never exceeded.
    """
    rows, models = len(sample.truth), sample.predictions
    ranks = [rows // 2 - 4 * math.isqrt(rows), rows // 2 + 4 * math.isqrt(rows)]
    values: Draws = {}
    for metric in metrics:
        terms = np.stack([statistic_of(metric)(sample.truth, predictions) for predictions in models.values()])
        low, high = np.partition(terms, ranks, axis=1)[:, ranks, None].transpose(1, 0, 2)
        distinct, sizes = _distinct_columns(np.clip(terms, low, high))
        counts = rng.multinomial(rows, sizes / rows, size=draws)
        values[metric.name] = {
            model: _weighted_median(row, counts, rows) for model, row in zip(models, distinct, strict=True)
        }
    return values


def _weighted_median(values: Array, counts: Array, rows: int) -> Array:
    """Median of values that occur as often as counted, shape (draws, values), in each draw."""
    order = np.argsort(values, kind="stable")
    upto = np.cumsum(counts[:, order], axis=1)
    middle = [values[order][(upto <= rank).sum(axis=1)] for rank in ((rows - 1) // 2, rows // 2)]
    median: Array = np.mean(middle, axis=0)
    return median


def _resample_rows(sample: Sample, metrics: Sequence[Metric], draws: int, rng: np.random.Generator) -> Draws:
    """Call the scorers on the rows of each resample."""
    values = {metric.name: {model: np.full(draws, np.nan) for model in sample.predictions} for metric in metrics}
    for draw in range(draws):
        rows = np.concatenate([rng.integers(first, last, last - first) for first, last in sample.bounds])
        for model, predictions in sample.predictions.items():
            target = sample.target.of_model(model)
            for name, value in compute_metrics(target, sample.truth[rows], predictions[rows], metrics).items():
                values[name][model][draw] = np.nan if value is None else value
    return values
