"""What the tasks of batch scoring do; see :mod:`ml_pipelines_airflow.tasks.training`."""

from __future__ import annotations

import logging
from typing import Any, cast

from ml_pipelines._utils.imports import import_object
from ml_pipelines.contracts import StepResult
from ml_pipelines.errors import RequestError
from ml_pipelines.pipeline.batch import SCORING_STEPS
from ml_pipelines.pipeline.batch_parameters import CollectScoresParameters, ScoreShardParameters
from ml_pipelines.pipeline.parameters import Parameters
from ml_pipelines.pipeline.wiring import wire_inputs
from ml_pipelines_airflow.notifications.events import Headline
from ml_pipelines_airflow.tasks.run_step import RESULT, execute_step
from ml_pipelines_airflow.tasks.training import run_options

__all__ = ["collect_scores", "ingest_batch", "plan_shards", "score_shard", "scores_headline"]

log = logging.getLogger(__name__)


def ingest_batch(*, step: str, parameters: dict[str, Any], ti: Any, **arguments: Any) -> None:
    """Pin the data and the model's version, and read the rows."""
    result = _run(step, _told(step, parameters), ti, **arguments)
    pin, model = _mapping(result, "pin"), _mapping(result, "model")
    log.info("%s version %s scores %s, %s", model["name"], model["version"], pin["location"], pin["digest"])


def plan_shards(*, step: str, parameters: dict[str, Any], ti: Any, **arguments: Any) -> list[list[int]]:
    """Cut the rows; gives the arguments of each mapped task, which are the number of its shard."""
    result = _run(step, _told(step, parameters), ti, ingest_batch=_pulled(ti, "ingest_batch"), **arguments)
    log.info("%s rows in %d shards", result.values["rows"], len(result.outputs))
    for warning in cast("list[str]", result.values["warnings"]):
        log.warning("%s", warning)
    return [[index] for index in range(len(result.outputs))]


def score_shard(index: int, *, step: str, parameters: dict[str, Any], ti: Any, **arguments: Any) -> None:
    """Score one shard."""
    told = ScoreShardParameters.model_validate(parameters)
    batch, plan = _pulled(ti, "ingest_batch"), _pulled(ti, "plan_shards")
    result = _run(step, told.for_shard(index, batch, plan), ti, **arguments)
    log.info("%(rows)s rows: %(scored)s scored, %(quarantined)s set aside", result.values)


def collect_scores(*, step: str, parameters: dict[str, Any], ti: Any, outlet_events: Any, **arguments: Any) -> None:
    """Join the scores of the shards that did not fail, if there are enough, and tell where they are."""
    told = CollectScoresParameters.model_validate(parameters)
    batch, plan = _pulled(ti, "ingest_batch"), _pulled(ti, "plan_shards")
    told = told.for_results(batch, plan, _results(ti, "score_shard"))
    result = _run(step, told, ti, **arguments)
    log.info("%(outcome)s: %(scored)s of %(rows)s rows scored, %(quarantined)s set aside", result.values)
    if result.values["failed_shards"]:
        log.warning("failed shards: %s", result.values["failed_shards"])
    made = {name: ref.model_dump(mode="json") for name, ref in result.outputs.items()}
    model = {"model": told.model, "version": told.version, "pin": batch.values["pin"]}
    for asset in ti.task.outlets:
        outlet_events[asset].extra = {"pipeline": ti.dag_id, "run_id": ti.run_id, **result.values, **model, **made}


def scores_headline(context: Any) -> Headline | None:
    """What a run has scored, once it is collected; None for every other task."""
    ti = context["ti"]
    found = _results(ti, "collect_scores") if ti.task_id == "collect_scores" else []
    if not found:
        return None
    values, model = found[0].values, context["task"].op_kwargs["parameters"]["model"]
    return Headline(
        text=f"{values['scored']} of {values['rows']} rows scored with {model}",
        detail=f"{values['quarantined']} set aside, {values['failed']} in shards that failed",
        good=values["outcome"] == "complete",
        facts="",
    )


def _told(step: str, parameters: dict[str, Any]) -> Parameters:
    told: Parameters = import_object(SCORING_STEPS[step].parameters).model_validate(parameters)
    return told


def _run(
    step: str,
    parameters: Parameters,
    ti: Any,
    *,
    seed: int,
    params: Any,
    docker: dict[str, Any] | None = None,
    ingest_batch: StepResult | None = None,
    **_rest_of_the_context: Any,
) -> StepResult:
    options = run_options(params)
    wired = wire_inputs(SCORING_STEPS[step], {"ingest_batch": ingest_batch})
    told = parameters.for_run(options)
    return execute_step(step, told, wired, ti=ti, seed=seed, force=options.force, docker=docker)


def _results(ti: Any, task: str) -> list[StepResult]:
    return [StepResult.model_validate(each) for each in ti.xcom_pull(task_ids=[task], key=RESULT) if each]


def _pulled(ti: Any, task: str) -> StepResult:
    found = _results(ti, task)
    if not found:
        raise RequestError(
            f"{task} has no result", where=f"run {ti.run_id}", fix=f"mend what {task} tells, and clear it"
        )
    return found[0]


def _mapping(result: StepResult, name: str) -> dict[str, Any]:
    value = result.values[name]
    assert isinstance(value, dict)
    return value
