"""Bootstrap intervals of metrics: paired over models and stratified by class.

All models are evaluated on the same resamples, so that common errors cancel in differences. Rows
are resampled within each class, so that every resample has as many rows of each class as the test set. See Efron and
Tibshirani 1993, *An Introduction to the Bootstrap*, chapters 8 and 13. Rows of groups are resampled by group instead,
see :mod:`ml_pipelines.evaluation.cluster_schemes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_pipelines.contracts import Interval
from ml_pipelines.evaluation.cluster_schemes import cluster_scheme
from ml_pipelines.evaluation.resampling_schemes import Draws, Sample, Scheme, scheme_of
from ml_pipelines.evaluation.scorers import MetricValues, compute_metrics
from ml_pipelines.evaluation.target_schema import TargetSchema
from ml_pipelines.spec.metric_table import Metric, get_metric, metrics_of

__all__ = ["bootstrap_metrics", "percentile_interval", "rounded"]

Array = NDArray[Any]


def bootstrap_metrics(
    target: TargetSchema,
    truth: Array,
    predictions: Mapping[str, Array],
    *,
    draws: int,
    seed: int,
    metrics: Iterable[str] | None = None,
    measured: Mapping[str, MetricValues] | None = None,
    clusters: Array | None = None,
) -> Draws:
    """Return the metrics of several models on the same resamples of the rows.

    Args:
        target: task, labels and thresholds.
        truth: of :func:`ml_pipelines.evaluation.target_schema.encode_labels`, shape (rows,).
        predictions: of each model, shape (rows,), or (rows, labels) with more than two labels.
        draws: number of resamples.
        seed: the same seed gives the same resamples.
        metrics: names; default all metrics of this package for the task.
        measured: metrics of each model on all rows; computed if None.
        clusters: number of the group of each row, from 0, shape (rows,); None if the rows are independent.

    Returns:
        Metric -> model -> values, shape (draws,); NaN in a draw that does not define the metric. A metric that all rows
        together do not define is absent. Metrics that are computed on the rows themselves have at most
        :data:`ml_pipelines.evaluation.resampling_schemes.GENERIC_DRAWS` values.

    Raises:
        SpecError: a metric is unknown.
        ExtensionError: a metric of another package fails, or its row is wrong.
    """
    wanted = metrics_of(target.task) if metrics is None else [get_metric(name) for name in metrics]
    if measured is None:
        measured = {
            model: compute_metrics(target.of_model(model), truth, values, wanted)
            for model, values in predictions.items()
        }
    defined = [metric for metric in wanted if all(values[metric.name] is not None for values in measured.values())]
    sample = Sample.of(target, truth, predictions, clusters)
    choose = scheme_of if clusters is None else cluster_scheme
    groups: dict[Scheme, list[Metric]] = {}
    for metric in defined:
        groups.setdefault(choose(metric, sample), []).append(metric)
    draws_by_metric: Draws = {}
    for scheme, group in groups.items():
        rng = np.random.default_rng([seed, scheme.stream])
        draws_by_metric |= scheme.resample(sample, group, int(min(draws, scheme.max_draws)), rng)
    return {metric.name: draws_by_metric[metric.name] for metric in defined}


def percentile_interval(values: Array, confidence: float) -> Interval | None:
    """Return the middle `confidence` of the draws; None if all of them are NaN.

    Unlike the interval of a standard error, it stays within the range of the metric. Unlike the bias-corrected one, it
    needs no leave-one-out values. `tests/benchmarks/decision.py` measures its error rates.
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        return None
    tail = (1 - confidence) / 2
    low, high = (rounded(bound) for bound in np.quantile(finite, [tail, 1 - tail]))
    return Interval(low=low, high=high, confidence=confidence)


def rounded(bound: float) -> float:
    """Return nine digits: the last ones of a sum depend on the processor, and results are compared by their bytes."""
    return float(f"{bound:.9g}")
