"""Evaluate the candidates, the champion and the dummy baseline on rows that no model was trained on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from numpy.typing import NDArray

from ml_pipelines.contracts import JsonValue
from ml_pipelines.data.columns import column
from ml_pipelines.errors import DataError, ModelError, PipelineError, TransientError
from ml_pipelines.evaluation.comparison import Uncertainty, compare_models
from ml_pipelines.evaluation.curves import curves_and_confusion
from ml_pipelines.evaluation.records import (
    CandidateEvaluation,
    ChampionEvaluation,
    DummyEvaluation,
    Evaluation,
    GroupEvaluation,
)
from ml_pipelines.evaluation.scorers import MetricValues, compute_metrics
from ml_pipelines.evaluation.target_schema import TargetSchema, dummy_predictions, encode_labels, validate_predictions
from ml_pipelines.modeling.features import feature_frame, predict
from ml_pipelines.pipeline.parameters import EvaluateParameters
from ml_pipelines.pipeline.step import StepOutput
from ml_pipelines.spec.metrics import Metric, get_metric, metrics_of
from ml_pipelines.spec.training import Slices

__all__ = ["evaluate"]

Array = NDArray[Any]
Training = dict[str, Any]


def evaluate(
    *,
    models: list[Callable[[], Any]],
    trainings: list[Training],
    validation: pl.LazyFrame,
    test: pl.LazyFrame,
    parameters: EvaluateParameters,
    seed: int,
    digests: Sequence[str | None] = (),
    champion: Callable[[], Any] | None = None,
    champion_status: Mapping[str, str | None] | None = None,
) -> StepOutput:
    """Evaluate all models. The winner is the best candidate on `validation`, the earliest one among equals.

    Args:
        models: each loads a candidate.
        trainings: the candidates' training records, in the same order.
        validation: rows to choose the winner on.
        test: rows to evaluate the winner, the champion and the dummy baseline on.
        parameters: the metric, the groups of rows with metrics of their own, confidence and number of resamples.
        seed: of the resamples.
        digests: the candidates' sha256, in the same order.
        champion: loads the champion, unless it is one of the candidates.
        champion_status: `identity` of the champion, and the `error` that keeps it from being loaded.

    Returns:
        Output `evaluation`, an :class:`Evaluation`. Values `winner`, `metric`, `value` (of the winner on `validation`)
        and `test`, the winner's metrics there.

    Raises:
        DataError: a part has no rows, or lacks a column.
        ModelError: a candidate fails to predict.
        ExtensionError: a metric of another package fails.
    """
    rows = _evaluation_rows(validation, test, trainings[0], parameters)
    evaluated = [
        _candidate(rows, load, training, digest)
        for load, training, digest in zip(models, trainings, digests or [None] * len(models), strict=True)
    ]
    candidates = [candidate for candidate, _ in evaluated]
    winner, predictions = evaluated[_best(candidates, parameters.metric)]
    opponent = _champion(rows, champion, champion_status, trainings[0])
    if champion_status is not None and champion_status["identity"] in digests:
        opponent = _champion_among(evaluated, list(digests).index(champion_status["identity"]), champion_status)
    uncertainty = _uncertainty(rows, (winner, predictions), opponent, parameters, seed)
    dummy = dummy_predictions(rows.target, trainings[0], len(rows.test.truth))
    evaluation = Evaluation(
        task=parameters.task,
        metric=parameters.metric,
        winner=winner.candidate,
        candidates=tuple(candidates),
        champion=opponent[0],
        dummy=DummyEvaluation(test=rows.metrics_on_test(dummy)),
        rows={"validation": len(rows.validation.truth), "test": len(rows.test.truth)},
        intervals=uncertainty.intervals,
        champion_intervals=uncertainty.champion_intervals,
        comparison=uncertainty.comparison,
    )
    values: dict[str, JsonValue] = {
        "winner": winner.candidate,
        "metric": parameters.metric,
        "value": winner.validation[parameters.metric],
        "test": {**winner.test},
    }
    return StepOutput(outputs={"evaluation": evaluation.document()}, values=values)


def _uncertainty(
    rows: _EvaluationRows,
    winner: tuple[CandidateEvaluation, Array],
    opponent: tuple[ChampionEvaluation | None, Array | None],
    parameters: EvaluateParameters,
    seed: int,
) -> Uncertainty:
    predictions, measured = {"winner": winner[1]}, {"winner": winner[0].test}
    champion, champion_predictions = opponent
    if champion is not None and champion_predictions is not None:
        predictions["champion"], measured["champion"] = champion_predictions, champion.test
    return compare_models(
        rows.target,
        rows.test.truth,
        predictions,
        measured,
        metric=parameters.metric,
        confidence=parameters.confidence,
        draws=parameters.draws,
        seed=seed,
    )


def _champion_among(
    evaluated: Sequence[tuple[CandidateEvaluation, Array]], index: int, status: Mapping[str, str | None]
) -> tuple[ChampionEvaluation, Array]:
    """The champion's evaluation and predictions, if its file is that of a candidate."""
    candidate, predictions = evaluated[index]
    measured = {"test": candidate.test, "slices": candidate.slices}
    return _unevaluated(status).model_copy(update=measured), predictions


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows and their truth, shape (rows,)."""

    name: str
    table: pl.LazyFrame
    truth: Array


@dataclass(frozen=True, slots=True)
class _Group:
    """Positions of the rows with the same level in a column."""

    column: str
    level: Any
    positions: Array


@dataclass(frozen=True, slots=True)
class _EvaluationRows:
    """The rows of an evaluation, and the metrics to compute on them."""

    target: TargetSchema
    metrics: list[Metric]
    validation: _Part
    test: _Part
    groups: list[_Group]

    def metrics_on_test(self, predictions: Array) -> MetricValues:
        return compute_metrics(self.target, self.test.truth, predictions, self.metrics)

    def metrics_of_groups(self, predictions: Array) -> tuple[GroupEvaluation, ...]:
        return tuple(
            GroupEvaluation(
                column=group.column,
                level=_json_level(group.level),
                rows=len(group.positions),
                metrics=compute_metrics(
                    self.target, self.test.truth[group.positions], predictions[group.positions], self.metrics
                ),
            )
            for group in self.groups
        )


def _evaluation_rows(
    validation: pl.LazyFrame, test: pl.LazyFrame, training: Training, parameters: EvaluateParameters
) -> _EvaluationRows:
    tables = {"validation": validation, "test": test}
    labels = {part: _column(table, parameters.target, part).to_list() for part, table in tables.items()}
    target = TargetSchema.of(training, [*labels["validation"], *labels["test"]])
    parts = {name: _Part(name, table, encode_labels(target, labels[name])) for name, table in tables.items()}
    metrics = metrics_of(parameters.task, parameters.other_metrics)
    return _EvaluationRows(target, metrics, **parts, groups=_groups(test, parameters.slices))


def _column(table: pl.LazyFrame, name: str, part: str) -> pl.Series:
    columns = table.collect_schema().names()
    if name not in columns:
        raise DataError(
            f"column {name!r} is missing",
            where=f"the {part} rows",
            expected=f"a column {name!r}",
            got=f"columns {', '.join(columns)}",
            fix="correct the column's name in the declaration, or in the data",
        )
    values = table.select(column(name).alias("values")).collect()["values"]
    if values.is_empty():
        raise DataError(f"there are no {part} rows", expected="at least one", fix=f"raise split.{part}, or add rows")
    return values


def _groups(test: pl.LazyFrame, slices: Slices) -> list[_Group]:
    """Every group of rows that is large enough, in the order of its level."""
    groups = []
    for name in slices.columns:
        table = pl.DataFrame({"level": _column(test, name, "test")}).with_row_index("row")
        large = table.filter(pl.len().over("level") >= slices.min_rows).group_by("level")
        of_column = [_Group(name, level, rows["row"].to_numpy()) for (level,), rows in large]
        groups += sorted(of_column, key=lambda group: str(group.level))
    return groups


def _json_level(value: Any) -> JsonValue:
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)


def _candidate(
    rows: _EvaluationRows, load: Callable[[], Any], training: Training, digest: str | None
) -> tuple[CandidateEvaluation, Array]:
    """A candidate's evaluation, and its predictions on the test rows."""
    model = load()
    on_validation, on_test = (_predictions(rows.target, model, training, part) for part in (rows.validation, rows.test))
    evaluation = CandidateEvaluation.model_validate(
        {
            "candidate": training["candidate"],
            "sha256": digest,
            "validation": compute_metrics(rows.target, rows.validation.truth, on_validation, rows.metrics),
            "test": rows.metrics_on_test(on_test),
            "slices": rows.metrics_of_groups(on_test),
            **curves_and_confusion(rows.target, rows.test.truth, on_test),
        }
    )
    return evaluation, on_test


def _predictions(target: TargetSchema, model: Any, training: Training, part: _Part) -> Array:
    where = f"{training['candidate']} on the {part.name} rows"
    frame = feature_frame(part.table, training["features"])
    try:
        return validate_predictions(target, predict(model, frame, training), len(part.truth))
    except PipelineError as exc:
        exc.where = exc.where or where
        raise
    except Exception as exc:  # an estimator may raise anything
        got, fix = f"{type(exc).__name__}: {exc}", "choose another estimator"
        raise ModelError("the model fails to predict", where=where, got=got, fix=fix) from exc


def _best(candidates: Sequence[CandidateEvaluation], metric: str) -> int:
    """The index of the best candidate on the validation rows, the first one among equals."""
    sign = 1.0 if get_metric(metric).greater_is_better else -1.0
    values = [candidate.validation[metric] for candidate in candidates]
    ranks = [-math.inf if value is None else sign * value for value in values]
    return ranks.index(max(ranks))


def _champion(
    rows: _EvaluationRows,
    load: Callable[[], Any] | None,
    status: Mapping[str, str | None] | None,
    training: Training,
) -> tuple[ChampionEvaluation | None, Array | None]:
    """The champion's evaluation and predictions, or the error that prevents them, which does not fail the run."""
    if status is None:
        return None, None
    if load is None:
        return _unevaluated(status), None
    try:
        model = load()
        predictions = _predictions(rows.target, model, _champion_training(model, training), rows.test)
    except TransientError:
        raise
    except Exception as exc:  # a model of another store may raise anything; the evaluation records it
        error = exc.summary if isinstance(exc, PipelineError) else f"{type(exc).__name__}: {exc}"
        return _unevaluated(status).model_copy(update={"error": error}), None
    measured = {"test": rows.metrics_on_test(predictions), "slices": rows.metrics_of_groups(predictions)}
    return _unevaluated(status).model_copy(update=measured), predictions


def _unevaluated(status: Mapping[str, str | None]) -> ChampionEvaluation:
    return ChampionEvaluation(identity=status["identity"] or "", error=status["error"])


def _champion_training(model: Any, training: Training) -> Training:
    """The record that predicts with a model of an earlier run: its own columns and classes, with this run's types."""
    classes = [*model.classes_.tolist()] if hasattr(model, "classes_") else None
    if classes != training["classes"]:
        raise ModelError(
            "the champion has other classes than this run", expected=f"{training['classes']}", got=f"{classes}"
        )
    features = {feature["name"]: feature for feature in training["features"]}
    names = [str(name) for name in getattr(model, "feature_names_in_", features)]
    if missing := [name for name in names if name not in features]:
        raise DataError(f"the champion needs column {missing[0]!r}, which is no longer among the features")
    return {**training, "candidate": "champion", "features": [features[name] for name in names]}
