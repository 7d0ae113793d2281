"""A step's work for a task instance: make a StepRequest from its context, run the step, push its result.

Results travel as XCom `result`: references with digests and small numbers, never data.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ml_pipelines.contracts import Identity, StepRequest, StepResult
from ml_pipelines.pipeline.parameters import Parameters
from ml_pipelines_airflow.execution import process
from ml_pipelines_airflow.metrics import emit

if TYPE_CHECKING:
    from ml_pipelines.services.settings import Settings

__all__ = ["RESULT", "execute_step", "run_url"]

log = logging.getLogger(__name__)

RESULT = "result"
LAST = "record_decision"  # step of every run, whatever became of it
DIGITS = 12  # of a digest, to recognise it by
_SHOWN = 5  # artifacts of a step


def execute_step(
    step: str,
    parameters: Parameters,
    wired: dict[str, Any],
    *,
    ti: Any,
    seed: int,
    force: bool,
    docker: dict[str, Any] | None,
    test: bool = False,
) -> StepResult:
    """Run a step for a task instance, and push its result.

    Args:
        step: name in the catalog.
        parameters: what the step is told in this run.
        wired: the request's `inputs`, `context` and `facts`.
        ti: the running task instance.
        seed: of the pipeline.
        force: compute even if the result is there.
        docker: the container that the step runs in, as JSON; None: in this process.
        test: in a run of `airflow dags test`, which does all of its tasks in one process.
    """
    from ml_pipelines_airflow.connections import airflow_settings

    where = airflow_settings()
    told = parameters.model_dump(mode="json")
    request = StepRequest(
        step=step,
        parameters=told,
        **wired,
        seed=seed,
        store=where.store,
        identity=Identity(
            pipeline=ti.dag_id,
            run_id=ti.run_id,
            task_id=ti.task_id,
            map_index=-1 if ti.map_index is None else ti.map_index,
            run_url=run_url(ti),
        ),
        force=force,
    )
    result = _run_here(request, where, test=test) if docker is None else _run_contained(request, where, docker, ti)
    ti.xcom_push(key=RESULT, value=result.model_dump(mode="json"))
    did = f"{result.status} in {result.seconds:.1f} s"
    log.info(
        "ml_pipelines step %s done: %s, run %s of %s, %s", _label(ti, told), did, ti.run_id, ti.dag_id, _keys(result)
    )
    emit(ti.dag_id, result)
    return result


def run_url(ti: Any) -> str | None:
    """Where the run is shown in Airflow's UI."""
    url, _, _ = str(ti.log_url or "").partition("/tasks/")
    return url or None


def _run_here(request: StepRequest, where: Settings, *, test: bool) -> StepResult:
    from ml_pipelines.runner.step import run_step

    services = process.current.services(where, request.identity, test=test)
    if test and request.step == "train":
        services.prepare_smoke_test()
    result = run_step(request, services)
    if test and request.step == LAST:
        process.current.test = None  # and with it the process that would have tried a model, if nobody asked it
    return result


def _run_contained(request: StepRequest, where: Settings, docker: dict[str, Any], ti: Any) -> StepResult:
    from ml_pipelines.spec.execution import Docker
    from ml_pipelines_airflow.execution.container import run_in_container

    return run_in_container(request, where, docker=Docker.model_validate(docker), ti=ti)


def _label(ti: Any, told: dict[str, Any]) -> str:
    if "candidate" in told:
        return f"{ti.task_id}[{told['candidate']['name']}]"
    return f"{ti.task_id}[{told['index']}]" if "index" in told else str(ti.task_id)


def _keys(result: StepResult) -> str:
    """By which the store knows the result and each artifact."""
    shown = list(result.outputs.items())[:_SHOWN]
    artifacts = "".join(f", {name} {made.sha256[:DIGITS]}" for name, made in shown)
    more = f" and {len(result.outputs) - _SHOWN} more" if len(result.outputs) > _SHOWN else ""
    return f"key {result.key[:DIGITS]}{artifacts}{more}"
