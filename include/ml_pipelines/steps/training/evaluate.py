"""Evaluate the candidates, the champion and the dummy baseline on rows that no model was trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import polars as pl
from numpy.typing import NDArray

from ml_pipelines.contracts import JsonValue
from ml_pipelines.data.split_rule import UnknownRows
from ml_pipelines.errors import PipelineError, TransientError
from ml_pipelines.evaluation.comparison import Uncertainty, compare_models, compare_with_dummy
from ml_pipelines.evaluation.curves import curves_and_confusion
from ml_pipelines.evaluation.evaluation_rows import EvaluationRows, Part, read_rows
from ml_pipelines.evaluation.held_out_predictions import read_predictions
from ml_pipelines.evaluation.records import (
    CandidateEvaluation,
    ChampionEvaluation,
    DummyEvaluation,
    Evaluation,
)
from ml_pipelines.evaluation.report_metrics import Resampling, add_report_metrics
from ml_pipelines.evaluation.rows_new_to_champion import unlearned_rows
from ml_pipelines.evaluation.scorers import compute_metrics
from ml_pipelines.evaluation.selection import select_candidate
from ml_pipelines.evaluation.target_schema import TargetSchema, constant_part, validate_predictions
from ml_pipelines.modeling.champion_training import champion_training
from ml_pipelines.modeling.estimators import estimator_errors
from ml_pipelines.modeling.features import predict
from ml_pipelines.modeling.threshold import threshold_of
from ml_pipelines.modeling.user_transform import model_frame
from ml_pipelines.pipeline.candidate_failures import collect_failures, parse_failures, require_candidates
from ml_pipelines.pipeline.step import StepOutput
from ml_pipelines.pipeline.step_parameters import EvaluateParameters
from ml_pipelines.spec.metric_table import get_metric, metrics_of

__all__ = ["evaluate"]

Array = NDArray[Any]
Training = dict[str, Any]


def evaluate(
    *,
    models: list[Callable[[], Any]],
    trainings: list[Training],
    predictions: list[pl.LazyFrame],
    train: pl.LazyFrame,
    validation: pl.LazyFrame,
    test: pl.LazyFrame,
    parameters: EvaluateParameters,
    seed: int,
    failures: Sequence[Mapping[str, Any]] = (),
    digests: Sequence[str | None] = (),
    champion: Callable[[], Any] | None = None,
    champion_status: Mapping[str, str | None] | None = None,
    champion_split: Mapping[str, Any] | None = None,
    champion_transform: Mapping[str, Any] | None = None,
) -> StepOutput:
    """Evaluate all models. The winner is the simplest candidate within one standard error of the best on `validation`.

    Args:
        models: each loads a candidate, the simplest first.
        trainings: the candidates' training records, in the same order.
        predictions: the candidates' predictions for the validation rows, in the same order, of models that have not
            learned from these rows.
        train: training rows, to fit the dummy baseline of each metric.
        validation: rows to choose the winner on. After a refit, the dummy baseline is fitted on them too.
        test: rows to evaluate the winner, the champion and the dummy baseline on.
        parameters: the metric, the groups of rows with metrics of their own, confidence and number of resamples.
        seed: of the resamples.
        failures: the candidates whose training failed.
        digests: the candidates' sha256, in the same order.
        champion: loads the champion, unless it is one of the candidates.
        champion_status: `identity` of the champion, and the `error` that keeps it from being loaded.
        champion_split: record of the champion's split. The champion is evaluated on test rows that it has not learned
            from; without a record the rows are unknown, and it is not evaluated.
        champion_transform: `transform` and `features` of the champion's training record, if it has a transform.

    Returns:
        Output `evaluation`, an :class:`Evaluation`. Values `winner`, `metric`, `value` (of the winner on `validation`)
        and `test`, the winner's metrics there. The output is partial if a candidate fails to predict.

    Raises:
        DataError: a part has no rows, or lacks a column.
        ModelError: all candidates fail, here or in their training.
        ExtensionError: a metric of another package fails.
    """
    failed = parse_failures(failures)
    require_candidates(len(models), failed)
    rows = read_rows(
        {"train": train, "validation": validation, "test": test},
        trainings[0],
        label=parameters.target,
        metrics=metrics_of(parameters.task, parameters.other_metrics),
        slices=parameters.slices,
        group=parameters.group,
    )
    evaluated = []
    for load, training, held_out, digest in zip(
        models, trainings, predictions, digests or [None] * len(models), strict=True
    ):
        with collect_failures(failed, training["candidate"]):
            evaluated.append(_candidate(rows, load, training, held_out, digest))
    require_candidates(len(evaluated), failed)
    candidates = [candidate for candidate, _, _ in evaluated]
    selection = select_candidate(
        rows.target.with_thresholds({candidate.candidate: candidate.threshold for candidate in candidates}),
        rows.validation,
        {candidate.candidate: on_validation for candidate, _, on_validation in evaluated},
        {candidate.candidate: candidate.validation for candidate in candidates},
        metric=parameters.metric,
        seed=seed,
        failed=len(failed),
    )
    names = [candidate.candidate for candidate in candidates]
    winner, on_test, _ = evaluated[names.index(selection.winner)]
    opponent: tuple[ChampionEvaluation | None, Array | None]
    if champion_status is not None and champion_status["identity"] in digests:
        new_rows = rows
        opponent = _champion_among(evaluated, champion_status)
    else:
        new_rows, champion_status = _new_rows(rows, champion_status, champion_split, parameters)
        record = partial(champion_training, trainings[0], champion_transform)
        opponent = _champion(new_rows, champion, champion_status, record)
    uncertainty = _uncertainty(rows, new_rows, (winner, on_test), opponent, parameters, seed)
    evaluation = Evaluation(
        task=parameters.task,
        metric=parameters.metric,
        winner=winner.candidate,
        selection=selection,
        candidates=tuple(candidates),
        failures=tuple(failed),
        champion=opponent[0],
        dummy=_dummy(rows, (winner, on_test), parameters, seed),
        rows={"validation": len(rows.validation.truth), "test": len(rows.test.truth)},
        intervals=uncertainty.intervals,
        champion_intervals=uncertainty.champion_intervals,
        comparison=uncertainty.comparison,
    )
    evaluation = add_report_metrics(
        evaluation,
        parameters.report_metrics,
        (rows, {candidate.candidate: answers for candidate, answers, _ in evaluated}),
        (new_rows, opponent[1]),
        Resampling(confidence=parameters.confidence, draws=parameters.draws, seed=seed),
    )
    values: dict[str, JsonValue] = {
        "winner": winner.candidate,
        "metric": parameters.metric,
        "value": winner.validation[parameters.metric],
        "test": {**evaluation.candidates[evaluation.winner_index].test},
    }
    incomplete = len(evaluated) < len(models)
    return StepOutput(outputs={"evaluation": evaluation.document()}, values=values, partial=incomplete)


def _new_rows(
    rows: EvaluationRows,
    status: Mapping[str, str | None] | None,
    split: Mapping[str, Any] | None,
    parameters: EvaluateParameters,
) -> tuple[EvaluationRows, Mapping[str, str | None] | None]:
    """The rows that the champion has not learned from, and its status with the error if they are unknown."""
    if status is None or status["error"] is not None:
        return rows, status
    try:
        return unlearned_rows(rows, split, parameters.slices.min_rows), status
    except UnknownRows as exc:
        return rows, {**status, "error": str(exc), "unknown_rows": str(exc)}


def _uncertainty(
    rows: EvaluationRows,
    new_rows: EvaluationRows,
    winner: tuple[CandidateEvaluation, Array],
    opponent: tuple[ChampionEvaluation | None, Array | None],
    parameters: EvaluateParameters,
    seed: int,
) -> Uncertainty:
    """Intervals on all test rows, and those of the champion and the comparison on the rows that are new to it."""
    champion, champion_predictions = opponent
    compare = partial(
        compare_models,
        rows.target.with_thresholds(
            {"winner": winner[0].threshold, "champion": champion.threshold if champion else None}
        ),
        metric=parameters.metric,
        confidence=parameters.confidence,
        draws=parameters.draws,
        seed=seed,
    )
    alone = partial(
        compare, rows.test.truth, {"winner": winner[1]}, {"winner": winner[0].test}, clusters=rows.test.clusters
    )
    if champion is None or champion_predictions is None:
        return alone()
    predictions, measured = winner[1], winner[0].test
    if new_rows is not rows:
        predictions = winner[1][new_rows.places]
        measured = new_rows.at(winner[0].threshold).metrics_on_test(predictions)
    both = compare(
        new_rows.test.truth,
        {"winner": predictions, "champion": champion_predictions},
        {"winner": measured, "champion": champion.test},
        clusters=new_rows.test.clusters,
    )
    if new_rows is rows:
        return both
    return replace(both, intervals=alone().intervals)


def _dummy(
    rows: EvaluationRows, winner: tuple[CandidateEvaluation, Array], parameters: EvaluateParameters, seed: int
) -> DummyEvaluation:
    """The dummy baseline of each metric, and the comparison of the winner with that of the primary one."""
    measured = rows.metrics_of_dummies()
    comparison = compare_with_dummy(
        rows.target.with_thresholds({"winner": winner[0].threshold}),
        rows.test.truth,
        {"winner": winner[1], "dummy": rows.dummy_predictions(get_metric(parameters.metric))},
        {"winner": winner[0].test, "dummy": measured},
        metric=parameters.metric,
        confidence=parameters.confidence,
        draws=parameters.draws,
        seed=seed,
        clusters=rows.test.clusters,
    )
    return DummyEvaluation(test=measured, comparison=comparison)


def _champion_among(
    evaluated: Sequence[tuple[CandidateEvaluation, Array, Array]], status: Mapping[str, str | None]
) -> tuple[ChampionEvaluation, Array | None]:
    """The champion's evaluation and predictions, if its file is that of a candidate."""
    same = [(one, predictions) for one, predictions, _ in evaluated if one.sha256 == status["identity"]]
    if not same:
        return _unevaluated(status).model_copy(update={"error": "it is a candidate of this run that failed"}), None
    candidate, predictions = same[0]
    measured = {"test": candidate.test, "slices": candidate.slices, "threshold": candidate.threshold}
    return _unevaluated(status).model_copy(update=measured), predictions


def _candidate(
    rows: EvaluationRows, load: Callable[[], Any], training: Training, held_out: pl.LazyFrame, digest: str | None
) -> tuple[CandidateEvaluation, Array, Array]:
    """A candidate's evaluation, and its predictions on the test and the validation rows."""
    model = load()
    threshold = threshold_of(model)
    rows = rows.at(threshold)
    on_validation = read_predictions(rows.target, held_out, len(rows.validation.truth))
    on_test = _predictions(rows.target, model, training, rows.test)
    evaluation = CandidateEvaluation.model_validate(
        {
            "candidate": training["candidate"],
            "sha256": digest,
            "validation": compute_metrics(rows.target, rows.validation.truth, on_validation, rows.metrics),
            "test": rows.metrics_on_test(on_test),
            "slices": rows.metrics_of_groups(on_test),
            **curves_and_confusion(rows.target, rows.test.truth, on_test),
            "constant": constant_part(rows.target, on_test),
            "threshold": threshold,
        }
    )
    return evaluation, on_test, on_validation


def _predictions(target: TargetSchema, model: Any, training: Training, part: Part) -> Array:
    frame, where = model_frame(part.table, training), f"{training['candidate']} on the {part.name} rows"
    with estimator_errors("the model fails to predict", where=where, params=training["params"]):
        return validate_predictions(target, predict(model, frame, training), len(part.truth))


def _champion(
    rows: EvaluationRows,
    load: Callable[[], Any] | None,
    status: Mapping[str, str | None] | None,
    record: Callable[[Any], Training],
) -> tuple[ChampionEvaluation | None, Array | None]:
    """The champion's evaluation and predictions, or the error that prevents them, which does not fail the run.

    `record` returns the record with which the loaded champion predicts.
    """
    if status is None:
        return None, None
    if load is None or status["error"] is not None:
        return _unevaluated(status), None
    try:
        model = load()
        predictions = _predictions(rows.target, model, record(model), rows.test)
    except TransientError:
        raise
    except Exception as exc:  # a model of another store may raise anything; the evaluation records it
        error = exc.summary if isinstance(exc, PipelineError) else f"{type(exc).__name__}: {exc}"
        return _unevaluated(status).model_copy(update={"error": error}), None
    threshold = threshold_of(model)
    rows = rows.at(threshold)
    measured: dict[str, Any] = {
        "test": rows.metrics_on_test(predictions),
        "slices": rows.metrics_of_groups(predictions),
        "threshold": threshold,
    }
    count = {"rows": len(rows.test.truth)}
    return _unevaluated(status).model_copy(update=measured | count), predictions


def _unevaluated(status: Mapping[str, str | None]) -> ChampionEvaluation:
    return ChampionEvaluation(
        identity=status["identity"] or "", error=status["error"], unknown_rows=status.get("unknown_rows")
    )
