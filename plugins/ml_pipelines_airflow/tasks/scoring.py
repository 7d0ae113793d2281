"""Callables of the scoring DAG's tasks; see :mod:`ml_pipelines_airflow.tasks.task_run`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, cast

from ml_pipelines._utils.imports import import_object
from ml_pipelines.contracts import StepResult
from ml_pipelines.errors import RequestError
from ml_pipelines.escaping import visible
from ml_pipelines.pipeline.batch_parameters import CollectScoresParameters, ScoreShardParameters
from ml_pipelines.pipeline.step_parameters import Parameters
from ml_pipelines.pipeline.step_table import find_step
from ml_pipelines.spec.task_steps import SCORING_TASKS, task_of
from ml_pipelines_airflow.notifications.events import Headline
from ml_pipelines_airflow.tasks.task_run import TaskRun, pull_results, run_options

__all__ = ["collect_scores", "ingest_batch", "plan_shards", "score_shard", "scores_headline"]

log = logging.getLogger(__name__)


def ingest_batch(*, ti: Any, **context: Any) -> None:
    """Pin the data and the model's version, and read the rows."""
    result = _run(ti, "ingest_batch", **context)
    pin, model = _mapping(result, "pin"), _mapping(result, "model")
    log.info("%s version %s scores %s, %s", model["name"], model["version"], pin["location"], pin["digest"])


def plan_shards(*, ti: Any, **context: Any) -> list[list[int]]:
    """Cut the rows into shards.

    Returns:
        The positional arguments of each mapped task: the index of its shard.
    """
    result = _run(ti, "plan_shards", results={"ingest_batch": _result(ti, "ingest_batch")}, **context)
    log.info("%s rows in %d shards", result.values["rows"], len(result.outputs))
    for warning in cast("list[str]", result.values["warnings"]):
        log.warning("%s", visible(warning))
    return [[index] for index in range(len(result.outputs))]


def score_shard(index: int, *, parameters: Mapping[str, dict[str, Any]], ti: Any, **context: Any) -> None:
    """Score one shard."""
    declared = ScoreShardParameters.model_validate(parameters["score_shard"])
    for_shard = declared.for_shard(index, _result(ti, "ingest_batch"), _result(ti, "plan_shards"))
    result = _run(ti, "score_shard", parameters={"score_shard": for_shard}, **context)
    log.info("%(rows)s rows: %(scored)s scored, %(quarantined)s quarantined", result.values)


def collect_scores(*, parameters: Mapping[str, dict[str, Any]], ti: Any, outlet_events: Any, **context: Any) -> None:
    """Join the scores of the successful shards if there are enough, and publish their addresses as an asset event."""
    declared = CollectScoresParameters.model_validate(parameters["collect_scores"])
    batch, plan = _result(ti, "ingest_batch"), _result(ti, "plan_shards")
    for_results = declared.for_results(batch, plan, _results(ti, "score_shard"))
    result = _run(ti, "collect_scores", parameters={"collect_scores": for_results}, **context)
    log.info("%(outcome)s: %(scored)s of %(rows)s rows scored, %(quarantined)s quarantined", result.values)
    if result.values["failed_shards"]:
        log.warning("failed shards: %s", result.values["failed_shards"])
    outputs = {name: ref.model_dump(mode="json") for name, ref in result.outputs.items()}
    model = {"model": for_results.model, "version": for_results.version, "pin": batch.values["pin"]}
    for asset in ti.task.outlets:
        outlet_events[asset].extra = {"pipeline": ti.dag_id, "run_id": ti.run_id, **result.values, **model, **outputs}


def scores_headline(context: Any) -> Headline | None:
    """Return the headline of a run once its scores are collected, None for every other task."""
    ti = context["ti"]
    results = _results(ti, "collect_scores") if ti.task_id == task_of("collect_scores", SCORING_TASKS) else []
    if not results:
        return None
    values = results[0].values
    model = context["task"].op_kwargs["parameters"]["collect_scores"]["model"]
    return Headline(
        text=f"{values['scored']} of {values['rows']} rows scored with {model}",
        detail=f"{values['quarantined']} quarantined, {values['failed']} in failed shards",
        good=values["outcome"] == "complete",
        facts="",
    )


def _run(
    ti: Any,
    step: str,
    *,
    parameters: Mapping[str, Any],
    seed: int,
    params: Any,
    docker: dict[str, Any] | None = None,
    results: Mapping[str, StepResult] | None = None,
    **_context: Any,
) -> StepResult:
    """Run a step with its declared parameters, which are JSON, or with those of this task instance."""
    run = TaskRun(ti=ti, seed=seed, options=run_options(params), docker=docker)
    declared: Parameters = import_object(find_step(step).parameters).model_validate(parameters[step])
    return run.run_step(step, declared, results)


def _results(ti: Any, step: str) -> list[StepResult]:
    return pull_results(ti, task_of(step, SCORING_TASKS), step)


def _result(ti: Any, step: str) -> StepResult:
    results = _results(ti, step)
    if not results:
        raise RequestError(
            f"{step} has no result",
            where=f"run {ti.run_id}",
            fix=f"correct the error in the log of {task_of(step, SCORING_TASKS)}, then clear that task",
        )
    return results[0]


def _mapping(result: StepResult, name: str) -> dict[str, Any]:
    value = result.values[name]
    assert isinstance(value, dict)
    return value
