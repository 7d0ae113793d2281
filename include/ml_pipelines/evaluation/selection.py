"""Selection among the candidates: the simplest one within one standard error of the best.

With few validation rows the best candidate is often the best by chance. The rule of one standard error prefers a
simpler candidate that is almost as good. See Hastie, Tibshirani and Friedman 2009, *The Elements of Statistical
Learning*, section 7.10. The standard error is that of the difference to the best candidate. A paired bootstrap of the
validation rows measures it. The test set takes no part.

Candidates are declared from the simplest to the most complex one, so their order defines which is simpler.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_pipelines.evaluation.bootstrap import bootstrap_metrics, rounded
from ml_pipelines.evaluation.evaluation_rows import Part
from ml_pipelines.evaluation.records import CandidateScore, Selection
from ml_pipelines.evaluation.scorers import MetricValues
from ml_pipelines.evaluation.target_schema import TargetSchema
from ml_pipelines.spec.custom_metric import short_name
from ml_pipelines.spec.metric_table import get_metric

__all__ = ["select_candidate"]

Array = NDArray[Any]
DRAWS = 200  # a standard error needs fewer resamples than a bound of an interval


def select_candidate(
    target: TargetSchema,
    part: Part,
    predictions: Mapping[str, Array],
    measured: Mapping[str, MetricValues],
    *,
    metric: str,
    seed: int,
    failed: int = 0,
) -> Selection:
    """Return the simplest candidate within one standard error of the best one.

    Args:
        target: task, labels and thresholds.
        part: the validation rows.
        predictions: of each candidate for these rows, from the simplest candidate on.
        measured: metrics on these rows by candidate.
        metric: the primary metric.
        seed: seed of the bootstrap.
        failed: number of candidates that failed, for the reason.
    """
    values = {name: measured[name][metric] for name in predictions}
    defined = {name: value for name, value in values.items() if value is not None}
    if not defined:
        reason = f"{short_name(metric)} is not defined on the validation rows, so the first candidate is selected"
        scores = tuple(CandidateScore(candidate=name) for name in values)
        return Selection(winner=scores[0].candidate, best=scores[0].candidate, scores=scores, reason=reason)
    sign = 1.0 if get_metric(metric).greater_is_better else -1.0
    best = max(defined, key=lambda name: sign * defined[name])  # the first one among equals
    draws = bootstrap_metrics(
        target,
        part.truth,
        {name: predictions[name] for name in defined},
        draws=DRAWS,
        seed=seed,
        metrics=[metric],
        measured={name: {metric: value} for name, value in defined.items()},
        clusters=part.clusters,
    )[metric]
    scores = tuple(
        CandidateScore(
            candidate=name,
            score=defined[name],
            standard_error=_spread(draws[name]),
            gap=sign * (defined[best] - defined[name]),
            gap_error=_spread(draws[best] - draws[name]),
        )
        if name in defined
        else CandidateScore(candidate=name)
        for name in values
    )
    winner = next(score for score in scores if score.is_close)
    reason = _reason(winner, best, scores, short_name(metric))
    if failed and len(scores) == 1:
        reason += " that did not fail"
    return Selection(winner=winner.candidate, best=best, scores=scores, reason=reason)


def _spread(draws: Array) -> float | None:
    finite = draws[np.isfinite(draws)]
    return rounded(float(finite.std())) if finite.size else None


def _reason(winner: CandidateScore, best: str, scores: tuple[CandidateScore, ...], metric: str) -> str:
    if len(scores) == 1:
        return f"{winner.candidate} is the only candidate"
    if winner.candidate == best:
        simplest = winner is scores[0]
        return f"{best} has the best {metric}" + (
            " and is the simplest candidate"
            if simplest
            else "; all simpler candidates are worse by more than one standard error"
        )
    return (
        f"{winner.candidate} is simpler than {best}, and its {metric} is within one standard error of the best: "
        f"{winner.gap:.3g} worse, standard error {winner.gap_error:.3g}"
    )
