from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException
from tests.step_values import step_values

from ml_pipelines.contracts import ArtifactRef, StepRequest, StepResult
from ml_pipelines.errors import RequestError
from ml_pipelines.pipeline import parameters as told
from ml_pipelines.pipeline.parameters import RunOptions
from ml_pipelines.pipeline.training import TRAINING_STEPS
from ml_pipelines.services.connected import ConnectedServices
from ml_pipelines.services.settings import Settings
from ml_pipelines.spec.execution import Docker
from ml_pipelines.spec.training import PipelineSpec
from ml_pipelines_airflow.execution import process
from ml_pipelines_airflow.tasks import training as tasks

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


def a_result(step: str, **values: Any) -> StepResult:
    outputs = {
        name: ArtifactRef(uri=f"file:///store/{step}.{name}", sha256=DIGEST, bytes=1, kind=kind)
        for name, kind in TRAINING_STEPS[step].outputs.items()
    }
    return StepResult(
        step=step,
        key=DIGEST,
        status="computed",
        reason="miss: first time",
        outputs=outputs,
        values=step_values(step, **values),
    )


class TaskInstance:
    """As much of Airflow's task instance as the tasks use."""

    dag_id, run_id, map_index = "small", "manual__1", None
    log_url = "http://airflow/dags/small/runs/manual__1/tasks/any?try_number=1"

    def __init__(self, task_id: str, *results: StepResult, outlets: tuple[str, ...] = ()) -> None:
        self.task_id = task_id
        self.task = SimpleNamespace(outlets=outlets)
        self.pushed: dict[str, Any] = {}
        self._found: dict[str, list[Any]] = {}
        for result in results:
            self._found.setdefault(tasks.TASK_IDS[result.step], []).append(result.model_dump(mode="json"))

    def xcom_pull(self, *, task_ids: list[str], key: str) -> list[Any]:
        assert key == "result"
        (task_id,) = task_ids
        return self._found.get(task_id, [None])

    def xcom_push(self, *, key: str, value: Any) -> None:
        self.pushed[key] = value


class Events(dict[str, SimpleNamespace]):
    def __missing__(self, asset: str) -> SimpleNamespace:
        return self.setdefault(asset, SimpleNamespace(extra={}))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[StepRequest]:
    """What the tasks ask `run_step` for; it gives what `answers` says."""
    requests: list[StepRequest] = []

    def run_step(request: StepRequest, services: ConnectedServices) -> StepResult:
        assert services.settings.store == "file:///store"
        requests.append(request)
        return a_result(request.step)

    monkeypatch.setattr("ml_pipelines.runner.step.run_step", run_step)
    where = Settings(store="file:///store", tracking_uri="sqlite://")
    monkeypatch.setattr("ml_pipelines_airflow.connections.airflow_settings", lambda: where)
    return requests


def arguments(step: str, *results: StepResult, outlets: tuple[str, ...] = (), **form: Any) -> dict[str, Any]:
    kind = getattr(told, TRAINING_STEPS[step].parameters.partition(":")[2])
    return {
        "step": step,
        "parameters": kind.of(SPEC).model_dump(mode="json"),
        "seed": 42,
        "ti": TaskInstance(tasks.TASK_IDS[step], *results, outlets=outlets),
        "params": FORM | form,
        "outlet_events": Events(),
        "dag_run": SimpleNamespace(triggering_user_name="eve"),
    }


def test_every_step_has_a_task() -> None:
    assert list(tasks.TASK_IDS) == list(TRAINING_STEPS)
    assert len(set(tasks.TASK_IDS.values())) == len(TRAINING_STEPS)


def test_a_request_says_whose_work_it_is(asked: list[StepRequest]) -> None:
    tasks.run_task(**arguments("ingest"))
    (request,) = asked
    assert request.identity.model_dump() == {
        "pipeline": "small",
        "run_id": "manual__1",
        "task_id": "ingest_data",
        "map_index": -1,
        "run_url": "http://airflow/dags/small/runs/manual__1",
    }
    assert (request.store, request.seed, request.force) == ("file:///store", 42, False)


def test_a_run_in_one_process_has_one_set_of_services_and_expects_to_try_a_model(
    monkeypatch: pytest.MonkeyPatch, asked: list[StepRequest]
) -> None:
    used: list[ConnectedServices] = []
    expected: list[ConnectedServices] = []
    quickly: list[bool] = []

    def run_step(request: StepRequest, services: ConnectedServices) -> StepResult:
        used.append(services)
        return a_result(request.step)

    monkeypatch.setattr("ml_pipelines.runner.step.run_step", run_step)
    monkeypatch.setattr(ConnectedServices, "prepare_smoke_test", lambda services: expected.append(services))
    monkeypatch.setattr(process, "current", process.Process())
    monkeypatch.setattr(process, "skip_final_collection", lambda: quickly.append(True))
    for user in ("dag_test", "eve"):
        of_the_run = {"dag_run": SimpleNamespace(triggering_user_name=user)}
        tasks.run_task(**arguments("ingest") | of_the_run)
        tasks.train(**arguments("train", a_result("split"), a_result("ingest")) | of_the_run)
    test, same, first, second = used
    assert test is same
    assert test is not first is not second
    assert expected == [test]
    assert quickly == [True]
    assert process.current.test is not None
    last = arguments("record_decision", a_result("ingest"), a_result("compare_with_champion"))
    tasks.run_task(**last | {"dag_run": SimpleNamespace(triggering_user_name="dag_test")})
    assert used[-1] is test
    assert process.current.test is None, "a run that ships nothing leaves no process that waits for a question"


@pytest.mark.parametrize("forks", [True, False])
def test_only_the_fork_of_a_worker_leaves_its_garbage(
    monkeypatch: pytest.MonkeyPatch, asked: list[StepRequest], forks: bool
) -> None:
    left: list[bool] = []
    monkeypatch.setattr(process, "limit_garbage_collection", lambda: left.append(True))
    monkeypatch.setattr(process, "current", process.Process(forks=forks))
    tasks.run_task(**arguments("ingest"))
    assert left == [True] * forks


def test_a_step_runs_in_a_container_if_it_is_declared(
    monkeypatch: pytest.MonkeyPatch, asked: list[StepRequest]
) -> None:
    contained: list[StepRequest] = []

    def run_in_container(request: StepRequest, where: Settings, *, docker: Docker, ti: TaskInstance) -> StepResult:
        assert (where.store, docker, ti) == ("file:///store", Docker(memory="1g"), given["ti"])
        contained.append(request)
        return a_result(request.step)

    monkeypatch.setattr("ml_pipelines_airflow.execution.container.run_in_container", run_in_container)
    given = arguments("ingest")
    tasks.run_task(**given)
    tasks.run_task(**given, docker=Docker(memory="1g").model_dump(mode="json"))
    # The same is asked for, and the same is told.
    assert contained == asked
    assert given["ti"].pushed["result"]["step"] == "ingest"


@pytest.mark.parametrize("url", [None, ""])
def test_without_a_page_there_is_no_url(asked: list[StepRequest], url: str | None) -> None:
    given = arguments("ingest")
    given["ti"].log_url = url
    tasks.run_task(**given)
    assert asked[0].identity.run_url is None


def test_the_form_reaches_the_step(asked: list[StepRequest]) -> None:
    tasks.run_task(**arguments("ingest", data_revision="v2", force=True))
    assert asked[0].parameters["source"]["dvc"]["rev"] == "v2"
    assert asked[0].force
    tasks.run_task(**arguments("decide", a_result("evaluate"), a_result("train"), promote="never"))
    assert asked[1].parameters["promote"] == "never"


def test_inputs_come_from_the_results_of_earlier_tasks(asked: list[StepRequest]) -> None:
    tasks.run_task(**arguments("preprocess", a_result("ingest"), a_result("check_quality")))
    uris = {name: ref.uri for name, ref in asked[0].inputs.items()}
    assert uris == {"table": "file:///store/ingest.table", "flagged": "file:///store/check_quality.flagged"}


def test_inputs_from_mapped_tasks_are_lists_without_the_skipped_ones(asked: list[StepRequest]) -> None:
    given = arguments("evaluate", a_result("train"), a_result("train"), a_result("split"))
    given["ti"]._found["train_model"].insert(0, None)
    tasks.run_task(**given)
    assert len(asked[0].inputs["models"]) == 2


def test_a_missing_input_is_named(asked: list[StepRequest]) -> None:
    with pytest.raises(RequestError) as caught:
        tasks.run_task(**arguments("split"))
    assert "step split has no input 'table'" in str(caught.value)
    assert "fix: run step preprocess first" in str(caught.value)
    assert asked == []


def test_what_is_pushed_is_the_result(asked: list[StepRequest]) -> None:
    given = arguments("ingest")
    result = tasks.run_task(**given)
    assert given["ti"].pushed == {"result": result.model_dump(mode="json")}


def test_an_asset_tells_the_values_of_the_step(asked: list[StepRequest]) -> None:
    given = arguments("ingest", outlets=("data",))
    result = tasks.run_task(**given)
    assert given["outlet_events"]["data"].extra == {"pipeline": "small", "run_id": "manual__1", **result.values}


def test_the_log_tells_the_candidate(asked: list[StepRequest], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    tasks.train(**arguments("train", a_result("split"), a_result("ingest")))
    told = "ml_pipelines step train_model[linear] done: computed in 0.0 s, run manual__1 of small, key 000000000000"
    assert f"{told}, model 000000000000" in caplog.text


@pytest.mark.parametrize(("verdict", "task"), [("passed", "preprocess_data"), ("stopped", "handle_poor_quality")])
def test_the_quality_decides_the_branch(monkeypatch: pytest.MonkeyPatch, verdict: str, task: str) -> None:
    monkeypatch.setattr(tasks, "run_task", lambda **_: a_result("check_quality", verdict=verdict))
    assert tasks.check_quality(ti=None) == task


@pytest.mark.parametrize(("verdict", "task"), [("go_on", "check_quality"), ("no_change", "keep_champion")])
def test_the_fingerprint_decides_the_branch(monkeypatch: pytest.MonkeyPatch, verdict: str, task: str) -> None:
    result = a_result("compare_with_champion", verdict=verdict, reason="data changed")
    monkeypatch.setattr(tasks, "run_task", lambda **_: result)
    assert tasks.compare_with_champion(ti=None) == task


def branch_of(ti: Any, *, user: str | None = None, when: str = "on_hold", promote: str = "auto") -> str:
    return tasks.decide(
        ti=ti,
        parameters={"gate": {"approval": {"when": when}}},
        params=FORM | {"promote": promote},
        dag_run=SimpleNamespace(triggering_user_name=user),
    )


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> TaskInstance:
    """The task instance of a `decide` that holds."""
    monkeypatch.setattr(tasks, "run_task", lambda **_: a_result("decide", outcome="held"))
    monkeypatch.setattr(tasks, "_card", lambda result: "# card")
    monkeypatch.delenv("ML_PIPELINES_APPROVE", raising=False)
    return TaskInstance("decide")


@pytest.mark.parametrize(
    ("outcome", "task"),
    [("promoted", "register_model"), ("rejected", "keep_champion"), ("no_change", "keep_champion")],
)
def test_the_decision_decides_the_branch(monkeypatch: pytest.MonkeyPatch, outcome: str, task: str) -> None:
    monkeypatch.setattr(tasks, "run_task", lambda **_: a_result("decide", outcome=outcome))
    assert branch_of(None) == task


def test_a_person_is_asked_about_what_is_held_with_its_card(held: TaskInstance) -> None:
    assert branch_of(held, user="ada") == "request_approval"
    assert held.pushed == {"card": "# card"}


def test_nobody_is_asked_where_the_gate_says_so_unless_the_run_does(held: TaskInstance) -> None:
    assert branch_of(held, when="never") == "keep_champion"
    assert branch_of(held, when="never", promote="hold") == "request_approval"


def test_a_test_run_waits_for_nobody(
    held: TaskInstance, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert branch_of(held, user="dag_test") == "keep_champion"
    assert "nobody can be asked in a test run: the champion stays. ML_PIPELINES_APPROVE=yes approves" in caplog.text
    monkeypatch.setenv("ML_PIPELINES_APPROVE", "yes")
    assert branch_of(held, user="dag_test") == "register_model"
    assert branch_of(held, user="ada") == "request_approval"


@pytest.mark.parametrize(
    ("answer", "approver"),
    [
        ({"chosen_options": ["Approve"], "responded_by_user": {"id": "7", "name": "ada"}}, "ada"),
        ({"chosen_options": ["Approve"], "responded_by_user": {"id": "7", "name": ""}}, "7"),
        ({"chosen_options": ["Approve"], "responded_by_user": None}, "unknown"),
        ({"chosen_options": ["Reject"], "responded_by_user": {"id": "7", "name": "ada"}}, None),
    ],
)
def test_who_approved_is_told_to_the_record(monkeypatch: pytest.MonkeyPatch, answer: Any, approver: Any) -> None:
    told: dict[str, Any] = {}
    monkeypatch.setattr(tasks, "run_task", lambda **given: told.update(given))
    ti = SimpleNamespace(xcom_pull=lambda task_ids: answer)
    tasks.record_decision(ti=ti, dag_run=SimpleNamespace(triggering_user_name="eve"))
    assert told["facts"] == ({"approval": {"approver": approver}} if approver else {})


def test_a_candidate_that_was_not_chosen_is_skipped(asked: list[StepRequest]) -> None:
    with pytest.raises(AirflowSkipException, match="the run asks for boosted_trees only"):
        tasks.train(**arguments("train", a_result("split"), candidates=["boosted_trees"]))
    assert asked == []


@pytest.mark.parametrize("chosen", [[], ["linear"], ["boosted_trees", "linear"]])
def test_a_chosen_candidate_is_trained(asked: list[StepRequest], chosen: list[str]) -> None:
    tasks.train(**arguments("train", a_result("split"), candidates=chosen))
    assert [request.parameters["candidate"]["name"] for request in asked] == ["linear"]


def test_poor_quality_is_told_with_its_report(caplog: pytest.LogCaptureFixture) -> None:
    result = a_result("check_quality", verdict="stopped", failed=["missing amount"])
    tasks.handle_poor_quality(ti=TaskInstance("handle_poor_quality", result))
    assert "training stopped: the data failed missing amount" in caplog.text
    assert "file:///store/check_quality.report" in caplog.text


def test_a_kept_champion_is_told_with_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    result = a_result("decide", outcome="rejected", reason="threshold roc_auc: too low")
    tasks.keep_champion(ti=TaskInstance("keep_champion", result))
    assert "rejected: threshold roc_auc: too low" in caplog.text


def test_nothing_new_keeps_the_champion_and_poor_data_skips_that(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    same = a_result("compare_with_champion", verdict="no_change", reason="nothing has changed")
    tasks.keep_champion(ti=TaskInstance("keep_champion", same))
    assert "no_change: nothing has changed" in caplog.text
    with pytest.raises(AirflowSkipException, match="nothing was decided"):
        tasks.keep_champion(ti=TaskInstance("keep_champion", a_result("compare_with_champion", verdict="go_on")))


def test_parameters_that_are_not_ours_are_left_alone() -> None:
    assert tasks.run_options({"force": True, "note": "somebody else's"}) == RunOptions(force=True)


def test_a_task_pushes_where_it_is_shown(asked: list[StepRequest]) -> None:
    version = a_result("register", url="http://mlflow/#/models/m/versions/7")
    given = arguments("deploy", a_result("decide"), version, a_result("evaluate", test={}), a_result("ingest", pin={}))
    tasks.run_task(**given)
    assert given["ti"].pushed.keys() == {"result", "model_version_url"}
    assert given["ti"].pushed["model_version_url"] == "http://mlflow/#/models/m/versions/7"


def test_a_task_that_is_shown_nowhere_pushes_only_its_result(asked: list[StepRequest]) -> None:
    given = arguments("ingest")
    tasks.run_task(**given)
    assert given["ti"].pushed.keys() == {"result"}
