"""A task instance and services that stand in for Airflow and the systems."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ml_pipelines.contracts import ArtifactRef, Decision, StepRequest, StepResult
from ml_pipelines.pipeline.training import TRAINING_STEPS
from ml_pipelines.services.connected import ConnectedServices
from ml_pipelines.services.settings import Settings
from ml_pipelines.spec.task_steps import TRAINING_TASKS, task_of
from ml_pipelines.spec.training import PipelineSpec
from ml_pipelines_airflow.dag_builders.common import declared_parameters

DIGEST = "0" * 64
FORM = {"data_revision": None, "candidates": [], "promote": "auto", "force": False}
SPEC = PipelineSpec.model_validate(
    {
        "name": "small",
        "model": {"name": "m", "task": "classification"},
        "data": {"dvc": {"repo": "r", "path": "p.csv"}, "target": "y"},
        "gate": {"metric": "roc_auc"},
    }
)


COMPARED = {
    "verdict": "go_on",
    "fingerprint": {},
    "changed": ["data"],
    "champion_version": None,
    "reason": "data changed",
}
CHECKED = {"verdict": "passed", "rows": 3, "quarantined": 0, "failed": [], "warnings": []}
DECISION = Decision(outcome="promoted", model="m", reason="all rules passed", candidate="linear", metric="roc_auc")


def step_result(step: str, **values: Any) -> StepResult:
    """Return the result of a training step with one artifact per output."""
    outputs = {
        name: ArtifactRef(uri=f"file:///store/{step}.{name}", sha256=DIGEST, bytes=1, kind=kind)
        for name, kind in TRAINING_STEPS[step].outputs.items()
    }
    return StepResult(
        step=step, key=DIGEST, status="computed", reason="miss: first time", outputs=outputs, values=values
    )


class TaskInstance:
    """The attributes and methods of Airflow's task instance that the tasks use."""

    dag_id, run_id, map_index = "small", "manual__1", None

    def __init__(self, task_id: str, *results: StepResult, outlets: tuple[str, ...] = ()) -> None:
        self.task_id = task_id
        self.log_url: str | None = "http://airflow/dags/small/runs/manual__1/tasks/any?try_number=1"
        self.task = SimpleNamespace(outlets=outlets)
        self.pushed: dict[str, Any] = {}
        self.xcoms: dict[tuple[str, str], list[Any]] = {}
        for result in results:
            key = (task_of(result.step, TRAINING_TASKS), result.step)
            self.xcoms.setdefault(key, []).append(result.model_dump(mode="json"))

    def xcom_pull(self, *, task_ids: list[str], key: str) -> list[Any]:
        (task_id,) = task_ids
        return self.xcoms.get((task_id, key), [None])

    def xcom_push(self, *, key: str, value: Any) -> None:
        self.pushed[key] = value


class Events(dict[str, SimpleNamespace]):
    """`outlet_events`: an event per asset."""

    def __missing__(self, asset: str) -> SimpleNamespace:
        return self.setdefault(asset, SimpleNamespace(extra={}))


def task_context(task_id: str, *results: StepResult, outlets: tuple[str, ...] = (), **form: Any) -> dict[str, Any]:
    """Return the arguments of a training task's callable, after the given results of earlier steps."""
    parameters = declared_parameters(SPEC, [step for step in TRAINING_TASKS[task_id] if step != "train"])
    if task_id == "train_model":
        from ml_pipelines.pipeline.step_parameters import TrainParameters

        parameters["train"] = TrainParameters.of(SPEC, SPEC.effective_candidates[0])
    return {
        "parameters": {step: values.model_dump(mode="json") for step, values in parameters.items()},
        "seed": 42,
        "ti": TaskInstance(task_id, *results, outlets=outlets),
        "params": FORM | form,
        "outlet_events": Events(),
        "dag_run": SimpleNamespace(triggering_user_name="eve"),
    }


class StepRunner:
    """Stands in for `run_step`: records each request and answers with the values set for its step."""

    def __init__(self) -> None:
        self.requests: list[StepRequest] = []
        self.services: list[ConnectedServices] = []
        self.values: dict[str, dict[str, Any]] = {
            "compare_with_champion": COMPARED,
            "check_quality": CHECKED,
            "decide": {"decision": DECISION.model_dump(mode="json")},
            "deploy": {"version": "7", "previous_version": None},
        }

    def __call__(self, request: StepRequest, services: ConnectedServices) -> StepResult:
        self.requests.append(request)
        self.services.append(services)
        return step_result(request.step, **self.values.get(request.step, {}))

    @property
    def steps(self) -> list[str]:
        """The steps that ran, in order."""
        return [request.step for request in self.requests]


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> StepRunner:
    """The replacement of `run_step`, with a store at `file:///store`."""
    runner = StepRunner()
    monkeypatch.setattr("ml_pipelines.runner.step.run_step", runner)
    settings = Settings(store="file:///store", tracking_uri="sqlite://")
    monkeypatch.setattr("ml_pipelines_airflow.connections.airflow_settings", lambda: settings)
    return runner
