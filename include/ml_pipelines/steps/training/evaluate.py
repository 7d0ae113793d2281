"""Measure the candidates, today's champion and a model that learned nothing on rows that none of them has seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import polars as pl
from numpy.typing import NDArray

from ml_pipelines.contracts import JsonValue
from ml_pipelines.errors import DataError, ModelError, PipelineError, TransientError
from ml_pipelines.evaluation.comparison import estimate_intervals
from ml_pipelines.evaluation.scorers import (
    TargetSchema,
    compute_metrics,
    curves_and_confusion,
    dummy_predictions,
    encode_labels,
    validate_predictions,
)
from ml_pipelines.modeling.features import feature_frame, predict
from ml_pipelines.pipeline.parameters import EvaluateParameters
from ml_pipelines.pipeline.step import StepOutput
from ml_pipelines.spec.metrics import METRICS
from ml_pipelines.spec.training import Slices

__all__ = ["evaluate"]

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
    champion_known: dict[str, JsonValue] | None = None,
) -> StepOutput:
    """Measure all models. The winner is the best candidate on `validation`, the earliest one among equals.

    Args:
        models: each loads a candidate.
        trainings: the candidates' records, in the same order.
        validation: rows to choose the winner on.
        test: rows to judge on.
        parameters: the metric, the groups of rows to measure on their own, and how intervals are drawn.
        seed: of the draws.
        digests: the candidates' sha256, in the same order.
        champion: loads today's champion, if it is not one of the candidates.
        champion_known: `identity` of the champion, and `error` if it can't be had.

    Returns:
        Output `evaluation`; values `winner`, `metric`, `value` (of the winner on `validation`) and `test`, the
        winner's metrics there.

    Raises:
        DataError: a part has no rows, or lacks a column.
        ModelError: a candidate fails to predict.
    """
    tables = {"validation": validation, "test": test}
    labels = {part: _column(table, parameters.target, part).to_list() for part, table in tables.items()}
    target = TargetSchema.of(trainings[0], [*labels["validation"], *labels["test"]])
    parts = {name: _Part(name, table, encode_labels(target, labels[name])) for name, table in tables.items()}
    slices = _slices(test, parameters.slices)
    sha256s = digests or [None] * len(models)
    candidates, scores = [], []
    for load, training, digest in zip(models, trainings, sha256s, strict=True):
        measured, found = _candidate(target, load, training, parts, slices)
        candidates.append({"sha256": digest, **measured})
        scores.append(found)
    winner = _best(candidates, parameters.metric)
    opponent, opposed = _champion(target, champion, champion_known, trainings[0], parts["test"], slices)
    if champion_known is not None and champion_known["identity"] in digests:
        index = list(digests).index(cast("str", champion_known["identity"]))
        opponent, opposed = {**_known(champion_known), **_measured(candidates[index])}, scores[index]
    on_test, measured = {"winner": scores[candidates.index(winner)]}, {"winner": winner["test"]}
    if opponent is not None and opposed is not None:
        on_test["champion"], measured["champion"] = opposed, opponent["test"]
    dummy = dummy_predictions(target, trainings[0], len(parts["test"].truth))
    evaluation = {
        "task": parameters.task,
        "metric": parameters.metric,
        "winner": winner["candidate"],
        "candidates": candidates,
        "champion": opponent,
        "dummy": {"test": compute_metrics(target, parts["test"].truth, dummy)},
        "rows": {name: len(part.truth) for name, part in parts.items()},
        **estimate_intervals(target, parts["test"].truth, on_test, measured, parameters, seed),
    }
    values = {"metric": parameters.metric, "value": winner["validation"][parameters.metric], "test": winner["test"]}
    return StepOutput(outputs={"evaluation": evaluation}, values={"winner": winner["candidate"], **values})


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows to measure on, and their truth, shape (n,)."""

    name: str
    table: pl.LazyFrame
    truth: NDArray[Any]


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
    values = table.select(name).collect()[name]
    if values.is_empty():
        raise DataError(f"there are no {part} rows", expected="at least one", fix=f"raise split.{part}, or add rows")
    return values


def _slices(test: pl.LazyFrame, wanted: Slices) -> list[tuple[str, Any, NDArray[Any]]]:
    """Column, level and the positions of its rows, for every group that is large enough."""
    found = []
    for column in wanted.columns:
        table = pl.DataFrame({"level": _column(test, column, "test")}).with_row_index("row")
        groups = table.filter(pl.len().over("level") >= wanted.min_rows).group_by("level")
        levels = sorted(((level, rows["row"].to_numpy()) for (level,), rows in groups), key=lambda group: str(group[0]))
        found += [(column, level, rows) for level, rows in levels]
    return found


def _candidate(
    target: TargetSchema,
    load: Callable[[], Any],
    training: Training,
    parts: dict[str, _Part],
    slices: list[tuple[str, Any, NDArray[Any]]],
) -> tuple[dict[str, Any], NDArray[Any]]:
    """What is known of a candidate, and its scores on the test rows."""
    model = load()
    scores = {name: _scores(target, model, training, part) for name, part in parts.items()}
    truth, found = parts["test"].truth, scores["test"]
    measured = {
        "candidate": training["candidate"],
        **{name: compute_metrics(target, part.truth, scores[name]) for name, part in parts.items()},
        "slices": _sliced(target, truth, found, slices),
        **curves_and_confusion(target, truth, found),
    }
    return measured, found


def _sliced(
    target: TargetSchema, truth: NDArray[Any], scores: NDArray[Any], slices: list[tuple[str, Any, NDArray[Any]]]
) -> list[dict[str, Any]]:
    return [
        {
            "column": name,
            "level": _level(level),
            "rows": len(at),
            "metrics": compute_metrics(target, truth[at], scores[at]),
        }
        for name, level, at in slices
    ]


def _level(value: Any) -> JsonValue:
    plain = value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    return cast("JsonValue", value) if plain else str(value)


def _scores(target: TargetSchema, model: Any, training: Training, part: _Part) -> NDArray[Any]:
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


def _best(candidates: list[dict[str, Any]], metric: str) -> dict[str, Any]:
    sign = 1.0 if METRICS[metric].greater_is_better else -1.0
    values = [candidate["validation"][metric] for candidate in candidates]
    ranks = [-math.inf if value is None else sign * value for value in values]
    return candidates[ranks.index(max(ranks))]


def _champion(
    target: TargetSchema,
    load: Callable[[], Any] | None,
    known: dict[str, JsonValue] | None,
    training: Training,
    test: _Part,
    slices: list[tuple[str, Any, NDArray[Any]]],
) -> tuple[dict[str, Any] | None, NDArray[Any] | None]:
    """The champion's metrics and scores, or what keeps it from being compared: no reason for this run to fail."""
    if known is None or load is None:
        return known and _known(known), None
    try:
        model = load()
        scores = _scores(target, model, _training_of(model, training), test)
    except TransientError:
        raise
    except Exception as exc:  # a file from elsewhere may raise anything, and what it raises is recorded
        return _known(known, error=_sentence(exc)), None
    measured = {
        "test": compute_metrics(target, test.truth, scores),
        "slices": _sliced(target, test.truth, scores, slices),
    }
    return _known(known) | measured, scores


def _known(known: dict[str, JsonValue], error: str | None = None) -> dict[str, Any]:
    return {"identity": known["identity"], "test": {}, "slices": [], "error": error or known["error"]}


def _measured(candidate: dict[str, Any]) -> dict[str, Any]:
    return {name: candidate[name] for name in ("test", "slices")}


def _training_of(model: Any, training: Training) -> Training:
    """What is needed to score a model of an earlier run: its own columns and classes, read as this run reads them."""
    classes = [*model.classes_.tolist()] if hasattr(model, "classes_") else None
    if classes != training["classes"]:
        raise ModelError("the champion tells other classes apart", expected=f"{training['classes']}", got=f"{classes}")
    known = {feature["name"]: feature for feature in training["features"]}
    names = [str(name) for name in getattr(model, "feature_names_in_", known)]
    if missing := [name for name in names if name not in known]:
        raise DataError(f"the champion needs column {missing[0]!r}, which is no longer among the features")
    return {**training, "candidate": "champion", "features": [known[name] for name in names]}


def _sentence(error: Exception) -> str:
    return error.summary if isinstance(error, PipelineError) else f"{type(error).__name__}: {error}"
