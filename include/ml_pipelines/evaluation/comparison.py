"""Intervals of the metrics of winner and champion, and of the differences to champion and dummy baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_pipelines.contracts import Comparison, Interval
from ml_pipelines.evaluation.bootstrap import bootstrap_metrics, percentile_interval, rounded
from ml_pipelines.evaluation.permutation import chance_gain
from ml_pipelines.evaluation.resampling_schemes import Draws
from ml_pipelines.evaluation.scorers import MetricValues
from ml_pipelines.evaluation.target_schema import TargetSchema
from ml_pipelines.spec.metric_table import get_metric

__all__ = ["Uncertainty", "compare_models", "compare_with_dummy"]

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncertainty:
    """Intervals of an evaluation.

    Attributes:
        intervals: of the winner, by metric.
        champion_intervals: of the champion, by metric.
        comparison: of the primary metric; None without a champion, or if the rows do not define the metric.
    """

    intervals: dict[str, Interval]
    champion_intervals: dict[str, Interval]
    comparison: Comparison | None


def compare_models(
    target: TargetSchema,
    truth: Array,
    predictions: Mapping[str, Array],
    measured: Mapping[str, MetricValues],
    *,
    metric: str,
    confidence: float,
    draws: int,
    seed: int,
    clusters: Array | None = None,
) -> Uncertainty:
    """Return the intervals of all measured metrics, and the comparison by the primary one.

    Args:
        target: task, labels and thresholds.
        truth: of the test rows, shape (rows,).
        predictions: on them, of `winner` and, where it can be evaluated, `champion`.
        measured: their metrics on the test rows.
        metric: the primary metric.
        confidence: of the intervals.
        draws: number of resamples.
        seed: of the resamples.
        clusters: number of the group of each row; None if the rows are independent.
    """
    resampled = bootstrap_metrics(
        target,
        truth,
        predictions,
        draws=draws,
        seed=seed,
        metrics=measured["winner"],
        measured=measured,
        clusters=clusters,
    )
    comparison = None
    if "champion" in predictions and metric in resampled:
        comparison = _comparison(
            measured, resampled[metric], metric, reference="champion", confidence=confidence, rows=len(truth)
        )
    return Uncertainty(
        intervals=_intervals(resampled, "winner", confidence),
        champion_intervals=_intervals(resampled, "champion", confidence),
        comparison=comparison,
    )


def _intervals(resampled: Draws, model: str, confidence: float) -> dict[str, Interval]:
    intervals = {
        name: percentile_interval(values[model], confidence) for name, values in resampled.items() if model in values
    }
    return {name: interval for name, interval in intervals.items() if interval is not None}


def compare_with_dummy(
    target: TargetSchema,
    truth: Array,
    predictions: Mapping[str, Array],
    measured: Mapping[str, MetricValues],
    *,
    metric: str,
    confidence: float,
    draws: int,
    seed: int,
    clusters: Array | None = None,
) -> Comparison | None:
    """Return the comparison of `winner` with `dummy`; None if the rows do not define the metric.

    A bootstrap can be too optimistic for few rows. So the lower bound is also at most the difference minus the gain of
    :func:`ml_pipelines.evaluation.permutation.chance_gain`. For a model without information it is then positive with a
    probability of at most half of `1 - confidence`.

    Args:
        target: task, labels and thresholds.
        truth: of the test rows, shape (rows,).
        predictions: of both on them.
        measured: metrics of both on them.
        metric: the primary metric.
        confidence: of the interval.
        draws: number of resamples.
        seed: of the resamples.
        clusters: number of the group of each row; None if the rows are independent.
    """
    resampled = bootstrap_metrics(
        target, truth, predictions, draws=draws, seed=seed, metrics=[metric], measured=measured, clusters=clusters
    ).get(metric)
    reference = measured["dummy"][metric]
    if resampled is None or reference is None:
        return None
    compared = _comparison(measured, resampled, metric, reference="dummy", confidence=confidence, rows=len(truth))
    gain = chance_gain(
        target.of_model("winner"),
        truth,
        predictions["winner"],
        get_metric(metric),
        dummy=reference,
        tail=(1 - confidence) / 2,
        seed=seed,
        clusters=clusters,
    )
    return _at_most(compared, compared.difference - max(gain, 0.0))


def _at_most(compared: Comparison, low: float) -> Comparison:
    """Lower the lower bounds of a comparison."""
    if not np.isfinite(low):
        return compared.model_copy(update={"interval": None, "relative": None})
    scale = abs(compared.reference or 0.0) or 1.0
    return compared.model_copy(
        update={"interval": _lowered(compared.interval, low), "relative": _lowered(compared.relative, low / scale)}
    )


def _lowered(interval: Interval | None, low: float) -> Interval | None:
    return interval and interval.model_copy(update={"low": min(interval.low, rounded(low))})


def _comparison(
    measured: Mapping[str, MetricValues],
    resampled: Mapping[str, Array],
    metric: str,
    *,
    reference: str,
    confidence: float,
    rows: int,
) -> Comparison:
    """Compare the winner with a reference by a metric that both have."""
    sign = 1 if get_metric(metric).greater_is_better else -1
    value, of_reference = (float(measured[model][metric] or 0.0) for model in ("winner", reference))
    differences = sign * (resampled["winner"] - resampled[reference])
    scale = np.abs(resampled[reference])
    shares = np.divide(differences, scale, out=np.full_like(differences, np.nan), where=scale > 0)
    return Comparison(
        metric=metric,
        difference=sign * (value - of_reference),
        interval=percentile_interval(differences, confidence),
        reference=of_reference,
        relative=percentile_interval(shares, confidence) if of_reference else None,
        draws=int(np.isfinite(differences).sum()),
        rows=rows,
    )
