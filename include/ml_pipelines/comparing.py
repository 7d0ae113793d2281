"""How sure an evaluation is: intervals of the winner's and the champion's metrics, and of their difference."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_pipelines.bootstrap import interval, resampled
from ml_pipelines.contracts import Comparison
from ml_pipelines.metrics import METRICS
from ml_pipelines.parameters import EvaluateParameters
from ml_pipelines.scoring import Problem, measure

__all__ = ["uncertainty"]

Array = NDArray[Any]


def uncertainty(
    problem: Problem,
    truth: Array,
    winner: Array,
    champion: Array | None,
    parameters: EvaluateParameters,
    seed: int,
) -> dict[str, Any]:
    """What the document of an evaluation says about chance, as plain JSON.

    Args:
        problem: what is predicted.
        truth: of the test rows, shape (rows,).
        winner: its scores on them.
        champion: the champion's; None if there is none, or none that could be scored.
        parameters: metric, confidence and number of draws.
        seed: of the draws.

    Returns:
        `intervals` and `champion_intervals` by metric, and `comparison`, a :class:`Comparison` or None.
    """
    scores = {"winner": winner} | ({} if champion is None else {"champion": champion})
    drawn = resampled(problem, truth, scores, draws=parameters.draws, seed=seed)
    intervals: dict[str, dict[str, Any]] = {name: {} for name in ("winner", "champion")}
    for metric, values in drawn.items():
        for name, each in values.items():
            if (found := interval(each, parameters.confidence)) is not None:
                intervals[name][metric] = found.model_dump(mode="json")
    comparison = None if champion is None else _comparison(problem, truth, scores, drawn, parameters)
    return {
        "intervals": intervals["winner"],
        "champion_intervals": intervals["champion"],
        "comparison": comparison and comparison.model_dump(mode="json"),
    }


def _comparison(
    problem: Problem,
    truth: Array,
    scores: dict[str, Array],
    drawn: dict[str, dict[str, Array]],
    parameters: EvaluateParameters,
) -> Comparison | None:
    metric = parameters.metric
    if metric not in drawn:
        return None
    sign = 1 if METRICS[metric].higher_is_better else -1
    ours, theirs = (measure(problem, truth, scores[name])[metric] for name in ("winner", "champion"))
    assert ours is not None
    assert theirs is not None
    draws = sign * (drawn[metric]["winner"] - drawn[metric]["champion"])
    return Comparison(
        metric=metric,
        difference=sign * (ours - theirs),
        interval=interval(draws, parameters.confidence),
        draws=int(np.isfinite(draws).sum()),
        rows=len(truth),
    )
