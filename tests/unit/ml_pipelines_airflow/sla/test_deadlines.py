# ruff: noqa: AIR311  what Airflow has removed is what these tests are about
from __future__ import annotations

import asyncio
import copy
import inspect
import logging
import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.jobs.triggerer_job_runner import ToTriggerRunner, ToTriggerSupervisor, TriggerCommsDecoder
from airflow.models.serialized_dag import SerializedDagModel
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, AsyncCallback, DeadlineAlert, DeadlineReference, TaskGroup, task
from airflow.sdk.api.datamodels._generated import PreviousTIResponse
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time import comms, task_runner
from airflow.serialization.serialized_objects import DagSerialization, LazyDeserializedDAG
from pydantic import TypeAdapter

from ml_pipelines_airflow.notifications.events import Destination, LateTask
from ml_pipelines_airflow.policies import dag_policy
from ml_pipelines_airflow.sla import deadlines as sla
from ml_pipelines_airflow.sla.declared_sla import REMOVAL_WARNING, declared_slas, ignore_removal_warning

HOUR = timedelta(hours=1)
BEGUN = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
NOW = BEGUN + timedelta(seconds=100)
RUN = {"dag_id": "churn", "dag_run_id": "manual__1", "logical_date": BEGUN.isoformat()}

pytestmark = pytest.mark.filterwarnings("ignore:The SLA feature is removed in Airflow 3.0, replaced:UserWarning")


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLA_DEADLINES", "SLA_ALERT_FAILED_RUNS", "SLACK_CONN_ID", "SLACK_CHANNEL"):
        monkeypatch.delenv(f"AIRFLOW__ML_PIPELINES__{name}", raising=False)
    monkeypatch.setattr(sla, "_now", lambda: NOW)


def work(value: Any = None) -> None:
    """What the tasks below would do."""


class Notifier:
    """Stands for whatever tells of a DAG's runs: it has a destination."""

    destination = Destination("slack_of_the_team", "#team")

    def __call__(self, context: Any) -> None: ...


def a_dag(**options: Any) -> DAG:
    options.setdefault("default_args", {"sla": 4 * HOUR})
    with DAG("churn", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), **options) as dag:
        first = PythonOperator(task_id="first", python_callable=work)
        mapped = PythonOperator.partial(task_id="mapped", python_callable=work, sla=HOUR).expand(op_args=[[1], [2]])
        last = PythonOperator(task_id="last", python_callable=work)
        EmptyOperator(task_id="beside", sla=None)
        first >> mapped >> last
    return dag


def installed(**options: Any) -> DAG:
    dag = a_dag(**options)
    dag_policy(dag)
    return dag


def deadlines_of(dag: DAG) -> list[tuple[str | None, Any]]:
    return [(late_task.name, late_task.interval) for late_task in dag.deadline or []]


def test_declared_slas_reads_the_arguments_that_airflow_keeps() -> None:
    """The contract with the installed Airflow: if this fails, `declared_slas` has to look elsewhere."""
    with DAG("every_way", schedule=None, default_args={"sla": 4 * HOUR}) as dag:
        PythonOperator(task_id="default", python_callable=work)
        PythonOperator(task_id="own", python_callable=work, sla=HOUR)
        PythonOperator(task_id="none", python_callable=work, sla=None)
        PythonOperator.partial(task_id="mapped", python_callable=work).expand(op_args=[[1]])
        PythonOperator.partial(task_id="mapped_own", python_callable=work, sla=HOUR).expand(op_args=[[1]])
        PythonOperator.partial(task_id="mapped_none", python_callable=work, sla=None).expand(op_args=[[1]])
        with TaskGroup("group", default_args={"sla": 2 * HOUR}):
            PythonOperator(task_id="default", python_callable=work)
            PythonOperator.partial(task_id="mapped", python_callable=work).expand(op_args=[[1]])
        decorated = task(sla=3 * HOUR)(work)
        decorated.override(task_id="decorated")(1)
        decorated.override(task_id="decorated_mapped").expand(value=[1])
        PythonOperator(task_id="set_later", python_callable=work).sla = 5 * HOUR
    assert declared_slas(dag) == {
        "default": 4 * HOUR,
        "own": HOUR,
        "mapped": 4 * HOUR,
        "mapped_own": HOUR,
        "group.default": 2 * HOUR,
        "group.mapped": 2 * HOUR,
        "decorated": 3 * HOUR,
        "decorated_mapped": 3 * HOUR,
        "set_later": 5 * HOUR,
    }


def test_removal_warning_matches_that_of_airflow() -> None:
    with pytest.warns(UserWarning, match=REMOVAL_WARNING):
        EmptyOperator(task_id="a", sla=HOUR)


def test_install_deadlines_adds_one_deadline_per_duration() -> None:
    dag = installed()
    assert deadlines_of(dag) == [("SLA 1:00:00", HOUR), ("SLA 4:00:00", 4 * HOUR)]
    first, second = dag.deadline
    assert first.reference == DeadlineReference.DAGRUN_QUEUED_AT
    assert first.callback.path == "ml_pipelines_airflow.sla.deadlines.report_late_tasks"
    assert first.callback.kwargs == {
        "sla_seconds": 3600.0,
        "slas": {"first": 14400.0, "last": 14400.0, "mapped": 3600.0},
        "upstream": {"last": ["mapped"], "mapped": ["first"]},
        "destination": None,
    }
    assert second.callback.kwargs == {**first.callback.kwargs, "sla_seconds": 14400.0}


def test_install_deadlines_passes_the_arguments_of_the_callback() -> None:
    (alert, _) = installed().deadline
    assert set(inspect.signature(sla.report_late_tasks).parameters) == {*alert.callback.kwargs, "context"}


def test_install_deadlines_does_not_change_a_dag_without_an_sla() -> None:
    own = DeadlineAlert(DeadlineReference.DAGRUN_QUEUED_AT, HOUR, AsyncCallback("team.notify"))
    with DAG("plain", schedule=None, deadline=own) as dag:
        EmptyOperator(task_id="a")
    before = dict(vars(dag))
    dag_policy(dag)
    assert vars(dag) == before


def test_install_deadlines_keeps_other_deadlines_and_is_idempotent() -> None:
    own = DeadlineAlert(DeadlineReference.DAGRUN_QUEUED_AT, HOUR, AsyncCallback("team.notify"), "own")
    dag = installed(deadline=own)
    assert deadlines_of(dag) == [("own", HOUR), ("SLA 1:00:00", HOUR), ("SLA 4:00:00", 4 * HOUR)]
    once = DagSerialization.serialize_dag(dag)
    dag_policy(dag)
    assert DagSerialization.serialize_dag(dag) == once


def test_install_deadlines_can_be_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__ML_PIPELINES__SLA_DEADLINES", "False")
    dag = installed()
    assert dag.deadline is None
    assert "test" not in vars(dag)


def test_ignore_removal_warning_has_no_effect_if_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__ML_PIPELINES__SLA_DEADLINES", "False")
    ignore_removal_warning()
    with pytest.warns(UserWarning, match="The SLA feature is removed"):
        EmptyOperator(task_id="a", sla=HOUR)


@pytest.mark.filterwarnings("error")
def test_ignore_removal_warning_keeps_other_warnings() -> None:
    ignore_removal_warning()
    EmptyOperator(task_id="a", sla=HOUR)
    with pytest.raises(UserWarning, match=r"The SLA feature is removed in Airflow 3\.0, and replaced"):
        DAG("old", schedule=None, sla_miss_callback=work)


@pytest.mark.parametrize("value", [4, "4h", timedelta(0), -HOUR, timedelta.max, True, {"hours": 4}], ids=repr)
def test_install_deadlines_rejects_an_invalid_sla(value: Any) -> None:
    from airflow.exceptions import AirflowClusterPolicyViolation

    with pytest.raises(AirflowClusterPolicyViolation) as error:
        installed(default_args={"sla": value})
    message = str(error.value)
    for fact in ("task 'first' (and of 1 more)", "DAG 'churn'", f"got: {value!r}", "36500 days", "fix: "):
        assert fact in message


def test_install_deadlines_names_the_only_task_with_an_invalid_sla() -> None:
    from airflow.exceptions import AirflowClusterPolicyViolation

    with DAG("one", schedule=None) as dag:
        EmptyOperator(task_id="a", sla=timedelta(0))
    with pytest.raises(AirflowClusterPolicyViolation, match=r"^the sla of task 'a' in DAG 'one' is"):
        dag_policy(dag)


@pytest.mark.parametrize(
    "options",
    [
        {"default_args": {"sla": HOUR, "on_failure_callback": Notifier()}},
        {"default_args": {"sla": HOUR, "on_retry_callback": [work, Notifier()]}},
        {"on_success_callback": Notifier()},
        {"on_failure_callback": [work, Notifier()]},
    ],
)
def test_install_deadlines_uses_the_destination_of_the_dags_notifier(options: dict[str, Any]) -> None:
    assert {tuple(late_task.callback.kwargs["destination"]) for late_task in installed(**options).deadline} == {
        ("slack_of_the_team", "#team")
    }


def test_install_deadlines_uses_the_destination_of_a_tasks_notifier() -> None:
    for make in (
        lambda: EmptyOperator(task_id="a", sla=HOUR, on_skipped_callback=Notifier()),
        lambda: PythonOperator.partial(
            task_id="a", python_callable=work, sla=HOUR, on_failure_callback=[Notifier()]
        ).expand(op_args=[[1]]),
    ):
        with DAG("one", schedule=None) as dag:
            make()
        dag_policy(dag)
        (deadline,) = dag.deadline
        assert deadline.callback.kwargs["destination"] == ["slack_of_the_team", "#team"]


def test_install_deadlines_ignores_other_destinations() -> None:
    other = Notifier()
    other.destination = "#team"  # type: ignore[assignment]
    (deadline, _) = installed(on_failure_callback=other).deadline
    assert deadline.callback.kwargs["destination"] is None


def test_install_deadlines_survives_serialisation_with_a_stable_hash() -> None:
    data = DagSerialization.serialize_dag(installed())
    assert [late_task["interval"]["__data__"] for late_task in data["deadline"]] == [3600.0, 14400.0]
    hashes = {SerializedDagModel.hash(LazyDeserializedDAG.from_dag(installed()).data) for _ in range(3)}
    assert len(hashes) == 1
    assert "test" not in data


COPIES = {
    "deepcopy": copy.deepcopy,
    "partial_subset": lambda dag: dag.partial_subset("mapped"),
    "pickle": lambda dag: pickle.loads(pickle.dumps(dag)),
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_dag_test_of_a_copy_runs_the_copy(copied: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    dag = installed()
    twin = copied(dag)
    seen = []
    monkeypatch.setattr(
        DAG, "test", lambda self, *args, **kwargs: seen.append((self, self.deadline, args, kwargs)) or 7
    )
    assert twin.test(1, run_conf={}) == 7
    ((ran, deadline, args, kwargs),) = seen
    assert ran.task_dict is twin.task_dict
    assert (deadline, args, kwargs) == (None, (1,), {"run_conf": {}})
    assert len(twin.deadline) == len(dag.deadline) == 2


class Comms:
    """Answers what the triggerer asks, about one run. What it may not ask, or can't read, is an error here too."""

    def __init__(self, run: str = "running", **states: str | None) -> None:
        self.run, self.states = run, states
        self.times: dict[str, Any] = {}
        self.asked: list[Any] = []
        self.body_decoder: TypeAdapter[Any] = TypeAdapter(ToTriggerRunner)

    def send(self, msg: Any) -> Any:
        TypeAdapter(ToTriggerSupervisor).validate_python(msg.model_dump())
        self.asked.append(msg)
        return self.body_decoder.validate_python(self.answer(msg).model_dump())

    def answer(self, msg: Any) -> Any:
        match msg:
            case comms.GetDagRunState(dag_id="churn", run_id="manual__1"):
                return comms.DagRunStateResult(state=self.run)
            case comms.GetTaskStates(dag_id="churn", run_ids=["manual__1"]):
                return comms.TaskStatesResult(task_states={"manual__1": self.states})
            case comms.GetPreviousTI(dag_id="churn"):
                return self.time_of(msg)
        raise AssertionError(msg)

    def time_of(self, msg: comms.GetPreviousTI) -> Any:
        times = self.times.get(msg.task_id)
        if isinstance(times, Exception):
            raise times
        if times is None:
            return comms.PreviousTIResult()
        fields = {"task_id": msg.task_id, "dag_id": "churn", "run_id": "manual__1", "try_number": 1, **times}
        return comms.PreviousTIResult(task_instance=PreviousTIResponse(**fields))


Notifications = list[tuple[Destination, dict[str, Any], list[LateTask]]]


@pytest.fixture
def notifications(monkeypatch: pytest.MonkeyPatch) -> Notifications:
    sent: Notifications = []
    monkeypatch.setattr(
        "ml_pipelines_airflow.notifications.slack_callbacks.notify_late_tasks",
        lambda destination, *, run, late: sent.append((destination, run, list(late))),
    )
    return sent


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Calls the callback as the triggerer does, `sla` seconds after the run's start: 60 of the three tasks' 60."""

    def call(answers: Comms, **changed: Any) -> str | None:
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", answers, raising=False)
        kwargs = {
            "sla_seconds": 60.0,
            "slas": {"first": 60.0, "mapped": 60.0, "last": 200.0},
            "upstream": {"mapped": ["first"], "last": ["mapped"]},
            "destination": ["slack_of_the_team", "#team"],
            "context": {"dag_run": RUN, "deadline": {"deadline_time": BEGUN + timedelta(seconds=60)}},
        }
        return asyncio.run(sla.report_late_tasks(**(kwargs | changed)))

    return call


def test_report_late_tasks_notifies_and_logs(
    report: Any, notifications: Notifications, caplog: pytest.LogCaptureFixture
) -> None:
    answers = Comms(first="success", mapped_0="running", mapped_1="success", last=None)
    answers.times["first"] = {"start_date": BEGUN, "end_date": BEGUN + HOUR, "duration": 3600.0}
    answers.times["mapped"] = {"start_date": NOW - timedelta(seconds=30)}
    with caplog.at_level(logging.WARNING, "ml_pipelines_airflow.sla.deadlines"):
        text = report(answers)
    ((destination, run, late),) = notifications
    assert (destination, run) == (Destination("slack_of_the_team", "#team"), RUN)
    due = BEGUN + timedelta(seconds=60)
    (late_task,) = late
    assert due < late_task.seen == NOW
    assert late_task == LateTask(
        task="mapped[0]", state="running", due=due, seen=late_task.seen, sla_seconds=60.0, cause="first took 1 h"
    )
    assert text.startswith("SLA missed in DAG churn, run manual__1: 1 task is late: mapped[0] (running; due at ")
    assert caplog.messages == [text]


def test_report_late_tasks_only_logs_without_a_channel(
    report: Any, notifications: Notifications, caplog: pytest.LogCaptureFixture
) -> None:
    text = report(Comms(first="running", mapped=None, last=None), destination=None)
    assert notifications == []
    assert caplog.messages == [text]
    assert caplog.records[0].levelname == "WARNING"


def test_report_late_tasks_uses_the_configured_channel_by_default(
    report: Any, notifications: Notifications, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__ML_PIPELINES__SLACK_CHANNEL", "#everyone")
    report(Comms(first="running"), destination=None)
    monkeypatch.setenv("AIRFLOW__ML_PIPELINES__SLACK_CONN_ID", "slack_two")
    report(Comms(first="running"), destination=None)
    assert [late_task[0] for late_task in notifications] == [
        Destination("slack_api_default", "#everyone"),
        Destination("slack_two", "#everyone"),
    ]


def test_report_late_tasks_accepts_a_webhook_without_a_channel(report: Any, notifications: Notifications) -> None:
    report(Comms(first="running"), destination=["webhook", ""])
    assert [late_task[0] for late_task in notifications] == [Destination("webhook", "")]


def test_report_late_tasks_of_a_later_deadline_lists_all_late_tasks(report: Any, notifications: Notifications) -> None:
    context = {"dag_run": RUN, "deadline": {"deadline_time": (BEGUN + timedelta(seconds=200)).isoformat()}}
    report(Comms(first="success", mapped_0="running", last=None), sla_seconds=200.0, context=context)
    ((_, _, late),) = notifications
    assert [late_task.task for late_task in late] == ["last", "mapped[0]"]
    assert late[0].cause == "mapped[0] is running"


def test_report_late_tasks_tolerates_a_slow_clock(report: Any, notifications: Notifications) -> None:
    ahead = NOW + timedelta(seconds=30)
    context = {"dag_run": RUN, "deadline": {"deadline_time": ahead}}
    assert "0 s late" in report(Comms(first="running"), context=context)


@pytest.mark.parametrize(
    "answers",
    [
        Comms("success", first="running"),
        Comms("failed", first="running"),
        Comms(first="success", mapped_0="failed", mapped_1="skipped", last=None),
        Comms(first="removed", mapped="upstream_failed"),
        Comms(),
    ],
)
def test_report_late_tasks_sends_nothing_without_late_tasks(
    report: Any, notifications: Notifications, answers: Comms, caplog: pytest.LogCaptureFixture
) -> None:
    assert report(answers) is None
    assert (notifications, caplog.messages) == ([], [])


def test_report_late_tasks_reports_a_failed_run_on_request(
    report: Any, notifications: Notifications, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__ML_PIPELINES__SLA_ALERT_FAILED_RUNS", "True")
    report(Comms("failed", first="failed", mapped="upstream_failed", last="upstream_failed"))
    ((_, _, late),) = notifications
    assert [(late_task.task, late_task.state, late_task.cause) for late_task in late] == [
        ("first", "failed", None),
        ("mapped", "upstream_failed", "first failed"),
    ]
    assert report(Comms("success", first="success")) is None


@pytest.mark.parametrize(
    "unknown",
    [
        {"start_date": BEGUN, "run_id": "manual__2"},
        AirflowRuntimeError(comms.ErrorResponse(error=ErrorType.GENERIC_ERROR)),
        None,
    ],
    ids=["another run", "an error", "nothing"],
)
def test_report_late_tasks_works_without_timings(report: Any, notifications: Notifications, unknown: Any) -> None:
    answers = Comms(first="running", mapped=None)
    answers.times["first"] = unknown
    report(answers)
    ((_, _, late),) = notifications
    assert [(late_task.task, late_task.cause) for late_task in late] == [
        ("first", None),
        ("mapped", "first is running"),
    ]


def test_triggerer_channel_accepts_another_decoder() -> None:
    """The contract with the installed Airflow: a copy uses the same line, and decodes by itself."""
    decoder = TriggerCommsDecoder(socket=object(), async_writer=object(), async_reader=object())
    twin = copy.copy(decoder)
    twin.body_decoder = TypeAdapter(comms.PreviousTIResult)
    assert decoder.body_decoder is not twin.body_decoder
    for shared in ("_async_writer", "_async_reader", "_pending", "id_counter"):
        assert getattr(twin, shared) is getattr(decoder, shared)


@pytest.mark.parametrize("date", [None, BEGUN, BEGUN.isoformat()], ids=["none", "datetime", "text"])
def test_report_late_tasks_requests_the_timing_of_its_own_run(
    report: Any, notifications: Notifications, date: Any
) -> None:
    answers = Comms(first="success", mapped_3="running", last=None)
    answers.times["mapped"] = {"start_date": BEGUN}
    context = {"dag_run": {**RUN, "logical_date": date}, "deadline": {"deadline_time": BEGUN + timedelta(seconds=60)}}
    report(answers, context=context, slas={"last": 60.0})
    (asked,) = [late_task for late_task in answers.asked if isinstance(late_task, comms.GetPreviousTI)]
    assert (asked.task_id, asked.map_index) == ("mapped", 3)
    assert asked.logical_date == (BEGUN + timedelta(microseconds=1) if date else None)


def test_report_late_tasks_limits_the_number_of_requests(report: Any, notifications: Notifications) -> None:
    answers = Comms(**{f"mapped_{number}": "running" for number in range(200)})
    report(answers)
    assert len(notifications[0][2]) == 200
    assert (
        len([late_task for late_task in answers.asked if isinstance(late_task, comms.GetPreviousTI)]) == sla.MAX_TIMINGS
    )
