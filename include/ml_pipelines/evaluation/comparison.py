"""How sure an evaluation is: intervals of the winner's and the champion's metrics, and of their difference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_pipelines.contracts import Comparison
from ml_pipelines.evaluation.bootstrap import bootstrap_metrics, percentile_interval
from ml_pipelines.evaluation.scorers import MetricValues, TargetSchema
from ml_pipelines.pipeline.parameters import EvaluateParameters
from ml_pipelines.spec.metrics import METRICS

__all__ = ["estimate_intervals"]

Array = NDArray[Any]


def estimate_intervals(
    target: TargetSchema,
    truth: Array,
    scores: Mapping[str, Array],
    measured: Mapping[str, MetricValues],
    parameters: EvaluateParameters,
    seed: int,
) -> dict[str, Any]:
    """What the document of an evaluation says about chance, as plain JSON.

    Args:
        target: kind and labels of what is predicted.
        truth: of the test rows, shape (rows,).
        scores: on them, of `winner` and, if there is one that could be scored, `champion`.
        measured: their metrics on them.
        parameters: metric, confidence and number of draws.
        seed: of the draws.

    Returns:
        `intervals` and `champion_intervals` by metric, and `comparison`, a :class:`Comparison` or None.
    """
    drawn = bootstrap_metrics(target, truth, scores, draws=parameters.draws, seed=seed, measured=measured)
    intervals: dict[str, dict[str, Any]] = {name: {} for name in ("winner", "champion")}
    for metric, values in drawn.items():
        for name, each in values.items():
            if (found := percentile_interval(each, parameters.confidence)) is not None:
                intervals[name][metric] = found.model_dump(mode="json")
    comparison = _comparison(measured, drawn, len(truth), parameters) if "champion" in scores else None
    return {
        "intervals": intervals["winner"],
        "champion_intervals": intervals["champion"],
        "comparison": comparison and comparison.model_dump(mode="json"),
    }


def _comparison(
    measured: Mapping[str, MetricValues], drawn: dict[str, dict[str, Array]], rows: int, parameters: EvaluateParameters
) -> Comparison | None:
    metric = parameters.metric
    if metric not in drawn:
        return None
    sign = 1 if METRICS[metric].greater_is_better else -1
    ours, theirs = (measured[name][metric] for name in ("winner", "champion"))
    assert ours is not None
    assert theirs is not None
    draws = sign * (drawn[metric]["winner"] - drawn[metric]["champion"])
    return Comparison(
        metric=metric,
        difference=sign * (ours - theirs),
        interval=percentile_interval(draws, parameters.confidence),
        draws=int(np.isfinite(draws).sum()),
        rows=rows,
    )
