from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
from tests.unit.ml_pipelines_airflow.tasks.conftest import SPEC, StepRunner, TaskInstance, step_result

from ml_pipelines.contracts import StepRequest, StepResult
from ml_pipelines.errors import SourceNotFound
from ml_pipelines.pipeline.step_parameters import PreprocessParameters, RunOptions
from ml_pipelines.services.settings import Settings
from ml_pipelines.spec.placement import Docker
from ml_pipelines_airflow.execution import worker_process
from ml_pipelines_airflow.tasks.task_run import TaskRun, is_test_run, pull_results, run_options, run_url

PARAMETERS = PreprocessParameters.of(SPEC)
RESULTS = {step: step_result(step) for step in ("ingest", "check_quality", "preprocess")}


def task_run(ti: TaskInstance | None = None, **options: object) -> TaskRun:
    ti = ti or TaskInstance("preprocess_data")
    return TaskRun(ti=ti, seed=42, options=RunOptions(), **options)  # type: ignore[arg-type]


def test_request_carries_identity_store_and_seed(runner: StepRunner) -> None:
    task_run().run_step("preprocess", PARAMETERS, RESULTS)
    (request,) = runner.requests
    assert request.identity.model_dump() == {
        "pipeline": "small",
        "run_id": "manual__1",
        "task_id": "preprocess_data",
        "map_index": -1,
        "run_url": "http://airflow/dags/small/runs/manual__1",
    }
    assert (request.step, request.store, request.seed, request.force) == ("preprocess", "file:///store", 42, False)


def test_request_carries_inputs_of_earlier_steps_facts_and_force(runner: StepRunner) -> None:
    run = TaskRun(ti=TaskInstance("preprocess_data"), seed=1, options=RunOptions(force=True))
    results = {step: step_result(step) for step in ("ingest", "check_quality")}
    run.run_step("preprocess", PARAMETERS, results, {"approval": {"approver": "ada"}})
    (request,) = runner.requests
    assert request.inputs == {
        "table": results["ingest"].outputs["table"],
        "flagged": results["check_quality"].outputs["flagged"],
    }
    assert request.facts == {"approval": {"approver": "ada"}}
    assert request.force


def test_each_result_is_an_xcom_with_the_name_of_its_step(runner: StepRunner) -> None:
    run = task_run()
    results = {step: run.run_step(step, PARAMETERS, RESULTS) for step in ("preprocess", "split")}
    assert run.results == results
    assert run.ti.pushed == {step: result.model_dump(mode="json") for step, result in results.items()}


def test_steps_of_a_try_share_services_and_tries_do_not(runner: StepRunner) -> None:
    for run in (task_run(), task_run()):
        run.run_step("preprocess", PARAMETERS, RESULTS)
        run.run_step("split", PARAMETERS, RESULTS)
    first, second, third, fourth = runner.services
    assert first is second is not third is fourth


def test_log_groups_the_lines_of_a_step(
    monkeypatch: pytest.MonkeyPatch, runner: StepRunner, caplog: pytest.LogCaptureFixture
) -> None:
    def run_step(request: StepRequest, services: object) -> StepResult:
        logging.getLogger("step").info("works")
        return step_result(request.step)

    monkeypatch.setattr("ml_pipelines.runner.step.run_step", run_step)
    caplog.set_level(logging.INFO)
    task_run().run_step("preprocess", PARAMETERS, RESULTS)
    assert caplog.messages[:3] == ["::group::Step preprocess", "works", "::endgroup::"]
    assert caplog.messages[3].startswith("ml_pipelines step preprocess done: computed in 0.0 s, run manual__1 of small")


def test_log_group_of_a_failed_step_ends(
    monkeypatch: pytest.MonkeyPatch, runner: StepRunner, caplog: pytest.LogCaptureFixture
) -> None:
    def run_step(request: StepRequest, services: object) -> StepResult:
        raise SourceNotFound("no file")

    monkeypatch.setattr("ml_pipelines.runner.step.run_step", run_step)
    caplog.set_level(logging.INFO)
    run = task_run()
    with pytest.raises(SourceNotFound):
        run.run_step("preprocess", PARAMETERS, RESULTS)
    assert caplog.messages == ["::group::Step preprocess", "::endgroup::"]
    assert run.ti.pushed == {}


def test_each_step_with_docker_runs_in_its_own_container(monkeypatch: pytest.MonkeyPatch, runner: StepRunner) -> None:
    contained: list[StepRequest] = []

    def run_in_container(request: StepRequest, settings: Settings, *, docker: Docker, ti: TaskInstance) -> StepResult:
        assert (settings.store, docker, ti) == ("file:///store", Docker(memory="1g"), run.ti)
        contained.append(request)
        return step_result(request.step)

    monkeypatch.setattr("ml_pipelines_airflow.execution.container.run_in_container", run_in_container)
    run = task_run(docker=Docker(memory="1g").model_dump(mode="json"))
    for step in ("preprocess", "split"):
        run.run_step(step, PARAMETERS, RESULTS)
    assert [request.step for request in contained] == ["preprocess", "split"]
    assert runner.requests == []
    assert list(run.ti.pushed) == ["preprocess", "split"]


@pytest.mark.parametrize("forks", [True, False])
def test_only_the_fork_of_a_worker_leaves_its_garbage(
    monkeypatch: pytest.MonkeyPatch, runner: StepRunner, forks: bool
) -> None:
    calls: list[bool] = []
    monkeypatch.setattr(worker_process, "limit_garbage_collection", lambda: calls.append(True))
    monkeypatch.setattr(worker_process, "current", worker_process.Process(forks=forks))
    run = task_run()
    run.run_step("preprocess", PARAMETERS, RESULTS)
    run.run_step("split", PARAMETERS, RESULTS)
    assert calls == [True] * forks


@pytest.mark.parametrize("url", [None, ""])
def test_run_url_without_a_base_url_is_none(url: str | None) -> None:
    ti = TaskInstance("ingest_data")
    ti.log_url = url
    assert run_url(ti) is None


def test_run_options_ignores_other_parameters() -> None:
    assert run_options({"force": True, "note": "of another package"}) == RunOptions(force=True)


@pytest.mark.parametrize(("user", "expected"), [("dag_test", True), ("eve", False), (None, False)])
def test_is_test_run_recognises_the_user_of_dags_test(user: str | None, expected: bool) -> None:
    assert is_test_run(SimpleNamespace(triggering_user_name=user)) is expected


def test_pull_results_leaves_out_skipped_instances() -> None:
    ti = TaskInstance("evaluate_model", step_result("train"), step_result("train"))
    ti.xcoms["train_model", "train"].insert(0, None)
    assert pull_results(ti, "train_model", "train") == [step_result("train")] * 2
    assert pull_results(ti, "ingest_data", "ingest") == []
