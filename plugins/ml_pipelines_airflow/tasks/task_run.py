"""Run the steps of a task instance: build each StepRequest from the task's context, run it, push its result.

Results travel as XComs, one per step under the step's name: references with digests and small values, never data.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ml_pipelines.contracts import Identity, JsonValue, StepRequest, StepResult
from ml_pipelines.pipeline.step_parameters import Parameters, RunOptions
from ml_pipelines.pipeline.wiring import Results
from ml_pipelines.runner.task import build_request
from ml_pipelines_airflow.execution import worker_process
from ml_pipelines_airflow.metrics import emit

if TYPE_CHECKING:
    from ml_pipelines.services.connected import ConnectedServices
    from ml_pipelines.services.settings import Settings

__all__ = ["TaskRun", "is_test_run", "pull_results", "run_options", "run_url"]

log = logging.getLogger(__name__)

DIGEST_CHARACTERS = 12
"""Length of the digests in log lines."""
LOGGED_OUTPUTS = 5
"""Number of outputs of a step in its log line."""


@dataclass(kw_only=True)
class TaskRun:
    """One try of a task instance.

    Attributes:
        ti: the running task instance.
        seed: seed of the pipeline.
        options: values of the trigger form.
        docker: image and limits of the steps' containers as JSON; None runs the steps in this process.
        test: whether `airflow dags test` or `dag.test()` runs all tasks of the run in this process.
        results: results of the steps that this try has finished, by step.
    """

    ti: Any
    seed: int
    options: RunOptions
    docker: dict[str, Any] | None = None
    test: bool = False
    results: dict[str, StepResult] = field(default_factory=dict)

    def run_step(
        self,
        step: str,
        parameters: Parameters,
        results: Results | None = None,
        facts: Mapping[str, JsonValue] | None = None,
    ) -> StepResult:
        """Run a step and push its result as the XCom with the step's name.

        The log lines of the step form a group in Airflow's log view.

        Args:
            step: name of the step.
            parameters: declared parameters of the step.
            results: results of the steps that this step reads, a list for a mapped step.
            facts: further facts that no step returns, such as an approval.

        Raises:
            PipelineError: the error of the step.
        """
        request = build_request(
            step,
            parameters,
            results or {},
            seed=self.seed,
            store=self.settings.store,
            identity=self._identity,
            options=self.options,
            facts=facts,
        )
        with _log_group(step):
            result = self._run_in_container(request) if self.docker else self._run_in_process(request)
        self.results[step] = result
        self.ti.xcom_push(key=step, value=result.model_dump(mode="json"))
        log.info(
            "ml_pipelines step %s done: %s in %.1f s, run %s of %s, %s",
            _label(request),
            result.status,
            result.seconds,
            self.ti.run_id,
            self.ti.dag_id,
            _digests(result),
        )
        emit(self.ti.dag_id, result)
        return result

    @cached_property
    def settings(self) -> Settings:
        """Addresses of the store, the tracking server and the ledger."""
        from ml_pipelines_airflow.connections import airflow_settings

        return airflow_settings()

    @cached_property
    def services(self) -> ConnectedServices:
        """The services that all steps of this try share."""
        return worker_process.current.services(self.settings, self._identity, test=self.test)

    @cached_property
    def _identity(self) -> Identity:
        ti = self.ti
        index = -1 if ti.map_index is None else ti.map_index
        return Identity(pipeline=ti.dag_id, run_id=ti.run_id, task_id=ti.task_id, map_index=index, run_url=run_url(ti))

    def _run_in_process(self, request: StepRequest) -> StepResult:
        from ml_pipelines.runner.step import run_step

        return run_step(request, self.services)

    def _run_in_container(self, request: StepRequest) -> StepResult:
        from ml_pipelines.spec.placement import Docker
        from ml_pipelines_airflow.execution.container import run_in_container

        return run_in_container(request, self.settings, docker=Docker.model_validate(self.docker), ti=self.ti)


def run_options(params: Mapping[str, Any]) -> RunOptions:
    """Return the values of the trigger form that belong to this provider; a DAG may have other parameters."""
    return RunOptions.model_validate({name: params[name] for name in RunOptions.model_fields if name in params})


def run_url(ti: Any) -> str | None:
    """Return the address of the run's page in Airflow's UI, None if Airflow has no base URL."""
    url, _, _ = str(ti.log_url or "").partition("/tasks/")
    return url or None


def is_test_run(dag_run: Any) -> bool:
    """Return whether `airflow dags test` or `dag.test()` started the run.

    Such a run has no scheduler, so nothing would end a wait for an approval.
    """
    return bool(dag_run.triggering_user_name == "dag_test")


def pull_results(ti: Any, task_id: str, step: str) -> list[StepResult]:
    """Return the results of a step of an earlier task, one per mapped task instance; empty if it was skipped."""
    return [StepResult.model_validate(value) for value in ti.xcom_pull(task_ids=[task_id], key=step) if value]


@contextmanager
def _log_group(name: str) -> Iterator[None]:
    # Airflow's log view folds the lines between these two.
    log.info("::group::Step %s", name)
    try:
        yield
    finally:
        log.info("::endgroup::")


def _label(request: StepRequest) -> str:
    candidate, index = request.parameters.get("candidate"), request.parameters.get("index")
    if isinstance(candidate, dict):
        return f"{request.step}[{candidate['name']}]"
    return request.step if index is None else f"{request.step}[{index}]"


def _digests(result: StepResult) -> str:
    """Return the cache key and the digests of the outputs, shortened."""
    outputs = list(result.outputs.items())
    listed = "".join(f", {name} {ref.sha256[:DIGEST_CHARACTERS]}" for name, ref in outputs[:LOGGED_OUTPUTS])
    more = f" and {len(outputs) - LOGGED_OUTPUTS} more" if len(outputs) > LOGGED_OUTPUTS else ""
    return f"key {result.key[:DIGEST_CHARACTERS]}{listed}{more}"
