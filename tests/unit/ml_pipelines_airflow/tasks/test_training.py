from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException
from tests.unit.ml_pipelines_airflow.tasks.conftest import (
    CHECKED,
    COMPARED,
    DECISION,
    StepRunner,
    TaskInstance,
    step_result,
    task_context,
)

from ml_pipelines.errors import RequestError
from ml_pipelines.services.connected import ConnectedServices
from ml_pipelines.spec.task_steps import TRAINING_TASKS
from ml_pipelines_airflow.execution import worker_process
from ml_pipelines_airflow.tasks import training as tasks

PIN = {"source": "dvc", "location": "p.csv", "revision": None, "digest": None, "bytes": None}
INGESTED = step_result("ingest", pin=PIN, columns=2, empty_rows=0)
PASSED = (INGESTED, step_result("compare_with_champion", **COMPARED), step_result("check_quality", **CHECKED))
TRAINED = (*PASSED, step_result("preprocess"), step_result("split"), step_result("train"))
EVALUATED = (
    *TRAINED,
    step_result("evaluate", winner="linear", metric="roc_auc", value=0.9, test={"roc_auc": 0.9}),
    step_result("decide", decision=DECISION.model_dump(mode="json")),
)


def test_run_steps_runs_the_steps_of_the_task_in_order(runner: StepRunner) -> None:
    context = task_context("preprocess_data", *PASSED)
    results = tasks.run_steps(**context)
    assert runner.steps == list(results) == list(TRAINING_TASKS["preprocess_data"])
    assert list(context["ti"].pushed) == ["preprocess", "split"]


def test_run_steps_passes_results_between_the_steps_of_a_task(runner: StepRunner) -> None:
    tasks.run_steps(**task_context("preprocess_data", *PASSED))
    preprocess, split = runner.requests
    assert {name: ref.uri for name, ref in preprocess.inputs.items()} == {
        "table": "file:///store/ingest.table",
        "flagged": "file:///store/check_quality.flagged",
    }
    assert {name: ref.uri for name, ref in split.inputs.items()} == {
        "table": "file:///store/preprocess.clean",
        "columns": "file:///store/ingest.columns",
    }


def test_run_steps_passes_the_results_of_mapped_tasks_as_a_list(runner: StepRunner) -> None:
    tasks.run_steps(**task_context("evaluate_model", *TRAINED, step_result("train")))
    assert len(runner.requests[0].inputs["models"]) == 2


def test_run_steps_names_a_missing_input(runner: StepRunner) -> None:
    with pytest.raises(RequestError, match="preprocess has no input 'table'"):
        tasks.run_steps(**task_context("preprocess_data"))
    assert runner.requests == []


def test_run_steps_applies_the_form(runner: StepRunner) -> None:
    tasks.run_steps(**task_context("ingest_data", data_revision="v2", force=True))
    assert runner.requests[0].parameters["source"]["dvc"]["rev"] == "v2"
    assert runner.requests[0].force
    tasks.run_steps(**task_context("evaluate_model", *TRAINED, promote="never"))
    assert runner.requests[-1].parameters["promote"] == "never"


def test_run_steps_describes_the_asset_event_by_the_last_step(runner: StepRunner) -> None:
    runner.values["ingest"] = {"rows": 3}
    context = task_context("ingest_data", outlets=("data",))
    tasks.run_steps(**context)
    assert context["outlet_events"]["data"].extra == {"pipeline": "small", "run_id": "manual__1", "rows": 3}


def test_run_steps_describes_a_new_champion_with_metrics_and_pin(runner: StepRunner) -> None:
    context = task_context("register_and_deploy", *EVALUATED, outlets=("model",))
    tasks.run_steps(**context)
    assert context["outlet_events"]["model"].extra == {
        "pipeline": "small",
        "run_id": "manual__1",
        "version": "7",
        "previous_version": None,
        "metrics": {"roc_auc": 0.9},
        "pin": PIN,
    }


def test_run_steps_pushes_the_link_of_a_model_version(runner: StepRunner) -> None:
    runner.values["register"] = {"version": "7", "url": "http://mlflow/#/models/m/versions/7"}
    context = task_context("register_and_deploy", *EVALUATED)
    tasks.run_steps(**context)
    assert context["ti"].pushed.keys() == {"register", "deploy", "model_version_url"}
    assert context["ti"].pushed["model_version_url"] == "http://mlflow/#/models/m/versions/7"


def test_test_run_shares_services_and_prepares_the_smoke_test(
    monkeypatch: pytest.MonkeyPatch, runner: StepRunner
) -> None:
    expected: list[ConnectedServices] = []
    garbage: list[bool] = []
    monkeypatch.setattr(ConnectedServices, "prepare_smoke_test", lambda services: expected.append(services))
    monkeypatch.setattr(worker_process, "current", worker_process.Process())
    monkeypatch.setattr(worker_process, "skip_final_collection", lambda: garbage.append(True))
    test_run = {"dag_run": SimpleNamespace(triggering_user_name="dag_test")}
    tasks.run_steps(**task_context("ingest_data") | test_run)
    tasks.train_model(**task_context("train_model", *TRAINED) | test_run)
    assert runner.services[0] is runner.services[1]
    assert expected == [runner.services[0]]
    assert garbage == [True]
    tasks.record_decision(**_without_answer(task_context("record_decision", *PASSED)) | test_run)
    assert runner.services[2] is runner.services[0]
    assert worker_process.current.test is None


def _without_answer(context: dict[str, Any]) -> dict[str, Any]:
    ti = context["ti"]
    pull = ti.xcom_pull
    ti.xcom_pull = lambda *, task_ids, key=None: (
        None if task_ids == "request_approval" else pull(task_ids=task_ids, key=key)
    )
    return context


def test_check_quality_continues_with_preprocessing(runner: StepRunner) -> None:
    assert tasks.check_quality(**task_context("check_quality", INGESTED)) == "preprocess_data"
    assert runner.steps == ["compare_with_champion", "check_quality"]


def test_check_quality_branches_to_poor_quality(runner: StepRunner) -> None:
    runner.values["check_quality"] = CHECKED | {"verdict": "stopped", "failed": ["missing amount"]}
    assert tasks.check_quality(**task_context("check_quality", INGESTED)) == "handle_poor_quality"


def test_check_quality_keeps_the_champion_without_a_check_if_nothing_changed(runner: StepRunner) -> None:
    runner.values["compare_with_champion"] = COMPARED | {"verdict": "no_change", "changed": []}
    context = task_context("check_quality", INGESTED)
    assert tasks.check_quality(**context) == "keep_champion"
    assert runner.steps == ["compare_with_champion"]
    assert list(context["ti"].pushed) == ["compare_with_champion"]


def evaluate(runner: StepRunner, outcome: str, *, user: str | None = None, when: str = "on_hold", **form: Any) -> Any:
    runner.values["decide"] = {"decision": DECISION.model_copy(update={"outcome": outcome}).model_dump(mode="json")}
    context = task_context("evaluate_model", *TRAINED, **form)
    context["parameters"]["decide"]["gate"]["approval"]["when"] = when
    context["dag_run"] = SimpleNamespace(triggering_user_name=user)
    return tasks.evaluate_model(**context), context["ti"]


@pytest.mark.parametrize(
    ("outcome", "task_id"),
    [("promoted", "register_and_deploy"), ("rejected", "keep_champion"), ("no_change", "keep_champion")],
)
def test_evaluate_model_branches_by_the_outcome(runner: StepRunner, outcome: str, task_id: str) -> None:
    assert evaluate(runner, outcome)[0] == task_id


def test_evaluate_model_requests_approval_with_the_card_of_the_decision(runner: StepRunner) -> None:
    task_id, ti = evaluate(runner, "held", user="ada")
    assert task_id == "request_approval"
    assert DECISION.reason in ti.pushed["card"]


def test_evaluate_model_requests_no_approval_if_the_gate_says_never(runner: StepRunner) -> None:
    assert evaluate(runner, "held", when="never")[0] == "keep_champion"
    assert evaluate(runner, "held", when="never", promote="hold")[0] == "request_approval"


def test_evaluate_model_of_a_test_run_reads_the_answer_from_the_environment(
    runner: StepRunner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_process, "current", worker_process.Process())
    monkeypatch.delenv(tasks.APPROVE, raising=False)
    assert evaluate(runner, "held", user="dag_test")[0] == "keep_champion"
    assert f"{tasks.APPROVE}=yes" in caplog.text
    monkeypatch.setenv(tasks.APPROVE, "yes")
    assert evaluate(runner, "held", user="dag_test")[0] == "register_and_deploy"
    assert evaluate(runner, "held", user="ada")[0] == "request_approval"


@pytest.mark.parametrize(
    ("answer", "approver"),
    [
        ({"chosen_options": ["Approve"], "responded_by_user": {"id": "7", "name": "ada"}}, "ada"),
        ({"chosen_options": ["Approve"], "responded_by_user": {"id": "7", "name": ""}}, "7"),
        ({"chosen_options": ["Approve"], "responded_by_user": None}, "unknown"),
        ({"chosen_options": ["Reject"], "responded_by_user": {"id": "7", "name": "ada"}}, None),
    ],
)
def test_record_decision_passes_the_approver(runner: StepRunner, answer: Any, approver: str | None) -> None:
    context = task_context("record_decision", *PASSED)
    pull = context["ti"].xcom_pull
    context["ti"].xcom_pull = lambda *, task_ids, key=None: answer if key is None else pull(task_ids=task_ids, key=key)
    tasks.record_decision(**context)
    expected = {"approver": approver} if approver else None
    assert runner.requests[0].facts.get("approval") == expected


def test_train_model_skips_a_candidate_that_the_run_does_not_train(runner: StepRunner) -> None:
    with pytest.raises(AirflowSkipException, match="boosted_trees"):
        tasks.train_model(**task_context("train_model", *TRAINED, candidates=["boosted_trees"]))
    assert runner.requests == []


@pytest.mark.parametrize("candidates", [[], ["linear"], ["boosted_trees", "linear"]])
def test_train_model_trains_a_candidate_of_the_run(
    runner: StepRunner, candidates: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    tasks.train_model(**task_context("train_model", *TRAINED, candidates=candidates))
    assert [request.parameters["candidate"]["name"] for request in runner.requests] == ["linear"]
    assert "ml_pipelines step train[linear] done: " in caplog.text


def test_handle_poor_quality_logs_the_failed_checks_and_the_report(caplog: pytest.LogCaptureFixture) -> None:
    finding = {"check": "missing", "column": "amount\x1b", "severity": "error", "detail": "d", "remedy": "fill it"}
    result = step_result("check_quality", **CHECKED | {"verdict": "stopped", "findings": [finding]})
    tasks.handle_poor_quality(ti=TaskInstance("handle_poor_quality", result))
    assert "amount\\x1b: missing. d. Remedy: fill it" in caplog.text
    assert "file:///store/check_quality.report" in caplog.text


REJECTED = DECISION.model_copy(update={"outcome": "rejected", "reason": "threshold roc_auc: too low"})
UNCHANGED = COMPARED | {"verdict": "no_change", "changed": [], "reason": "nothing has changed"}


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([*PASSED, step_result("decide", decision=REJECTED.model_dump(mode="json"))], f"rejected: {REJECTED.reason}"),
        ([INGESTED, step_result("compare_with_champion", **UNCHANGED)], f"no_change: {UNCHANGED['reason']}"),
    ],
)
def test_keep_champion_logs_the_reason(results: list[Any], message: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    tasks.keep_champion(ti=TaskInstance("keep_champion", *results))
    assert message in caplog.messages
