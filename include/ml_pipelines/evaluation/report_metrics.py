"""Further metrics of a declaration. They are shown with their intervals, and decide nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from ml_pipelines.contracts import Interval
from ml_pipelines.errors import ExtensionError, UserCodeError
from ml_pipelines.evaluation.bootstrap import bootstrap_metrics, percentile_interval
from ml_pipelines.evaluation.evaluation_rows import EvaluationRows
from ml_pipelines.evaluation.records import Evaluation
from ml_pipelines.evaluation.scorers import compute_metrics
from ml_pipelines.spec.custom_metric import short_name
from ml_pipelines.spec.metric_table import Metric, get_metric

__all__ = ["Resampling", "add_report_metrics"]

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampling:
    """Confidence of the intervals, number and seed of the resamples."""

    confidence: float
    draws: int
    seed: int


def add_report_metrics(
    evaluation: Evaluation,
    names: Sequence[str],
    candidates: tuple[EvaluationRows, Mapping[str, Array]],
    champion: tuple[EvaluationRows, Array | None],
    resampling: Resampling,
) -> Evaluation:
    """Return an evaluation with further metrics on the test rows, and with the errors of those that fail.

    Args:
        evaluation: the evaluation by the metrics of the gate.
        names: the further metrics.
        candidates: their rows, and their predictions by name.
        champion: the rows that it has not learned from, and its predictions for these; None if it was not evaluated.
        resampling: of the intervals.
    """
    for name in names:
        try:
            evaluation = _with_metric(evaluation, get_metric(name), candidates, champion, resampling)
        except (UserCodeError, ExtensionError) as exc:
            evaluation = evaluation.model_copy(update={"report_errors": evaluation.report_errors | {name: exc.summary}})
    return evaluation


def _with_metric(
    evaluation: Evaluation,
    metric: Metric,
    candidates: tuple[EvaluationRows, Mapping[str, Array]],
    champion: tuple[EvaluationRows, Array | None],
    resampling: Resampling,
) -> Evaluation:
    rows, predictions = candidates
    own_rows = {one.candidate: rows.at(one.threshold) for one in evaluation.candidates}
    values = {name: _value(own_rows[name], metric, predicted) for name, predicted in predictions.items()}
    winner = evaluation.winner
    if values[winner] is None:
        raise UserCodeError(f"{short_name(metric.name)} gave no finite number for the test rows")
    changes: dict[str, Any] = {
        "candidates": tuple(
            one.model_copy(update={"test": one.test | {metric.name: values[one.candidate]}})
            for one in evaluation.candidates
        ),
        "dummy": evaluation.dummy.model_copy(
            update={"test": evaluation.dummy.test | {metric.name: _value(rows, metric, rows.dummy_predictions(metric))}}
        ),
        "intervals": evaluation.intervals | _interval(own_rows[winner], metric, predictions[winner], resampling),
    }
    new_rows, predicted = champion
    if evaluation.champion is not None and predicted is not None:
        new_rows = new_rows.at(evaluation.champion.threshold)
        test = evaluation.champion.test | {metric.name: _value(new_rows, metric, predicted)}
        changes["champion"] = evaluation.champion.model_copy(update={"test": test})
        changes["champion_intervals"] = evaluation.champion_intervals | _interval(
            new_rows, metric, predicted, resampling
        )
    return evaluation.model_copy(update=changes)


def _value(rows: EvaluationRows, metric: Metric, predictions: Array) -> float | None:
    return compute_metrics(rows.target, rows.test.truth, predictions, [metric])[metric.name]


def _interval(rows: EvaluationRows, metric: Metric, predictions: Array, resampling: Resampling) -> dict[str, Interval]:
    drawn = bootstrap_metrics(
        rows.target,
        rows.test.truth,
        {"model": predictions},
        draws=resampling.draws,
        seed=resampling.seed,
        metrics=[metric.name],
        clusters=rows.test.clusters,
    ).get(metric.name)
    interval = None if drawn is None else percentile_interval(drawn["model"], resampling.confidence)
    return {} if interval is None else {metric.name: interval}
