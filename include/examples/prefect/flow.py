"""Run the steps of a declaration as a Prefect 3 flow, with the same requests, store, MLflow and ledger as in Airflow.

    python flow.py DECLARATION.yaml            run the flow once
    python flow.py DECLARATION.yaml --serve    create a deployment with the cron of the declaration, and run it

Settings come from the environment, as for the command `ml-pipelines`. A Dask cluster trains the candidates in parallel.
DASK_SCHEDULER is the address of a cluster; without it, the flow starts one on this machine.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anyio import to_process
from prefect import flow, runtime, task, unmapped
from prefect.cache_policies import NO_CACHE
from prefect.schedules import Cron
from prefect_dask import DaskTaskRunner

from ml_pipelines.contracts import StepRequest, StepResult
from ml_pipelines.errors import PipelineError, TransientError
from ml_pipelines.pipeline.step_parameters import RunOptions
from ml_pipelines.runner.step import run_step
from ml_pipelines.runner.training import orchestrate, request_label
from ml_pipelines.services.connected import ConnectedServices
from ml_pipelines.services.settings import Settings
from ml_pipelines.spec.loader import load_spec

# One step per worker, without a dashboard.
LOCAL_CLUSTER = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
CLUSTER: dict[str, Any] = (
    {"address": os.environ["DASK_SCHEDULER"]} if "DASK_SCHEDULER" in os.environ else {"cluster_kwargs": LOCAL_CLUSTER}
)


async def is_retryable(task: Any, task_run: Any, state: Any) -> bool:
    """Return whether a retry can succeed. An error of a step is permanent unless it is transient."""
    error = await state.aresult(raise_on_failure=False)
    return isinstance(error, TransientError) or not isinstance(error, PipelineError)


# The artifact store is the cache, so Prefect caches nothing.
@task(
    task_run_name=lambda: request_label(runtime.task_run.parameters["request"]),
    cache_policy=NO_CACHE,
    persist_result=False,
    retry_condition_fn=is_retryable,
)
async def step(request: StepRequest, is_limited: bool) -> StepResult:
    """Run one step. With a time limit it runs in a separate process, because a thread can't be stopped."""
    services = ConnectedServices(Settings.from_environment(dict(os.environ)))
    if is_limited:
        return await to_process.run_sync(run_step, request, services, cancellable=True)
    return run_step(request, services)


@flow(name="ml-pipeline", task_runner=DaskTaskRunner(**CLUSTER))
def pipeline(declaration: str, force: bool = False) -> str:
    """Run a declaration and return the outcome. The ledger entry has the id of the flow run."""
    spec = load_spec(declaration)
    limit = spec.default_args.execution_timeout
    configured_step = step.with_options(
        retries=spec.default_args.retries,
        retry_delay_seconds=spec.default_args.retry_delay.total_seconds(),
        timeout_seconds=limit.total_seconds() if limit else None,
    )

    def run(requests: Sequence[StepRequest]) -> list[StepResult]:
        return configured_step.map(list(requests), is_limited=unmapped(limit is not None)).result()

    settings = Settings.from_environment()
    run_id = str(runtime.flow_run.id)
    orchestrate(spec, run, store=settings.store, run_id=run_id, options=RunOptions(force=force))
    entry = ConnectedServices(settings).ledger.entry(spec.name, run_id)
    assert entry is not None, "the last step writes the entry"
    return f"{entry.decision.outcome}: {entry.decision.reason}"


def main() -> None:
    """Run a declaration once, or serve a deployment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("declaration", type=Path)
    parser.add_argument("--serve", action="store_true", help="run by the cron of the declaration until Ctrl-C")
    arguments = parser.parse_args()
    declaration = str(arguments.declaration.resolve())
    if not arguments.serve:
        print(pipeline(declaration))
        return
    spec = load_spec(declaration)
    schedule = spec.schedule
    cron = [Cron(schedule.cron, timezone=schedule.timezone)] if schedule and schedule.cron else []
    pipeline.serve(name=spec.name, schedules=cron, parameters={"declaration": declaration}, limit=1)


if __name__ == "__main__":
    main()
