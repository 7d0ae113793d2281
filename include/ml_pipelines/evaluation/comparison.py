"""Intervals of the winner's and the champion's metrics, and of their difference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_pipelines.contracts import Comparison, Interval
from ml_pipelines.evaluation.bootstrap import bootstrap_metrics, percentile_interval
from ml_pipelines.evaluation.schemes import Draws
from ml_pipelines.evaluation.scorers import MetricValues
from ml_pipelines.evaluation.target_schema import TargetSchema
from ml_pipelines.spec.metrics import get_metric

__all__ = ["Uncertainty", "compare_models"]

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
) -> Uncertainty:
    """Return the intervals of all measured metrics, and the comparison by the primary one.

    Args:
        target: task and labels.
        truth: of the test rows, shape (rows,).
        predictions: on them, of `winner` and, where it can be evaluated, `champion`.
        measured: their metrics on the test rows.
        metric: the primary metric.
        confidence: of the intervals.
        draws: number of resamples.
        seed: of the resamples.
    """
    names = measured["winner"]
    resampled = bootstrap_metrics(target, truth, predictions, draws=draws, seed=seed, metrics=names, measured=measured)
    compared = "champion" in predictions and metric in resampled
    return Uncertainty(
        intervals=_intervals(resampled, "winner", confidence),
        champion_intervals=_intervals(resampled, "champion", confidence),
        comparison=_comparison(measured, resampled[metric], metric, confidence, len(truth)) if compared else None,
    )


def _intervals(resampled: Draws, model: str, confidence: float) -> dict[str, Interval]:
    intervals = {
        name: percentile_interval(values[model], confidence) for name, values in resampled.items() if model in values
    }
    return {name: interval for name, interval in intervals.items() if interval is not None}


def _comparison(
    measured: Mapping[str, MetricValues], resampled: Mapping[str, Array], metric: str, confidence: float, rows: int
) -> Comparison | None:
    sign = 1 if get_metric(metric).greater_is_better else -1
    winner, champion = measured["winner"][metric], measured["champion"][metric]
    if winner is None or champion is None:
        return None
    differences = sign * (resampled["winner"] - resampled["champion"])
    return Comparison(
        metric=metric,
        difference=sign * (winner - champion),
        interval=percentile_interval(differences, confidence),
        draws=int(np.isfinite(differences).sum()),
        rows=rows,
    )
