"""The steps of a declaration as a flow of Prefect 3: the same requests, store, MLflow and ledger as in Airflow.

    python flow.py DECLARATION.yaml            run it once
    python flow.py DECLARATION.yaml --serve    make a deployment with the declaration's cron, and run it when it is due

Settings come from the environment, as for the command `ml-pipelines`. The candidates are trained side by side, on the
workers of a Dask cluster, which is started on this machine unless DASK_SCHEDULER names one.
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
from ml_pipelines.pipeline.parameters import RunOptions
from ml_pipelines.runner.step import run_step
from ml_pipelines.runner.training import orchestrate, request_label
from ml_pipelines.services.connected import ConnectedServices
from ml_pipelines.services.settings import Settings
from ml_pipelines.spec.loader import load_spec

# A step a worker; Dask's page about them is not served.
ON_THIS_MACHINE = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
CLUSTER: dict[str, Any] = (
    {"address": os.environ["DASK_SCHEDULER"]} if "DASK_SCHEDULER" in os.environ else {"cluster_kwargs": ON_THIS_MACHINE}
)


async def is_worth_another_try(task: Any, task_run: Any, state: Any) -> bool:
    """Whether a failure may pass: what a step itself calls an error only does so if it says so."""
    error = await state.aresult(raise_on_failure=False)
    return isinstance(error, TransientError) or not isinstance(error, PipelineError)


# The store is the cache: it knows a result by its recipe, and a step that finds it there does nothing else.
@task(
    task_run_name=lambda: request_label(runtime.task_run.parameters["request"]),
    cache_policy=NO_CACHE,
    persist_result=False,
    retry_condition_fn=is_worth_another_try,
)
async def step(request: StepRequest, is_limited: bool) -> StepResult:
    """Run one step, or find its result; if its time is limited in a process of its own, for no thread can be ended."""
    services = ConnectedServices(Settings.from_environment(dict(os.environ)))
    if is_limited:
        return await to_process.run_sync(run_step, request, services, cancellable=True)
    return run_step(request, services)


@flow(name="ml-pipeline", task_runner=DaskTaskRunner(**CLUSTER))
def pipeline(declaration: str, force: bool = False) -> str:
    """Run a declaration; what became of it, which is also in the ledger under the id of the flow's run."""
    spec = load_spec(declaration)
    limit = spec.default_args.execution_timeout
    tried = step.with_options(
        retries=spec.default_args.retries,
        retry_delay_seconds=spec.default_args.retry_delay.total_seconds(),
        timeout_seconds=limit.total_seconds() if limit else None,
    )

    def run(requests: Sequence[StepRequest]) -> list[StepResult]:
        return tried.map(list(requests), is_limited=unmapped(limit is not None)).result()

    settings = Settings.from_environment()
    run_id = str(runtime.flow_run.id)
    orchestrate(spec, run, store=settings.store, run_id=run_id, options=RunOptions(force=force))
    entry = ConnectedServices(settings).ledger.entry(spec.name, run_id)
    assert entry is not None, "the last step has written it"
    return f"{entry.decision.outcome}: {entry.decision.reason}"


def main() -> None:
    """Run a declaration once, or serve it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("declaration", type=Path)
    parser.add_argument("--serve", action="store_true", help="run it by its cron until Ctrl-C")
    given = parser.parse_args()
    declaration = str(given.declaration.resolve())
    if not given.serve:
        print(pipeline(declaration))
        return
    spec = load_spec(declaration)
    due = spec.schedule
    cron = [Cron(due.cron, timezone=due.timezone)] if due and due.cron else []
    pipeline.serve(name=spec.name, schedules=cron, parameters={"declaration": declaration}, limit=1)


if __name__ == "__main__":
    main()
