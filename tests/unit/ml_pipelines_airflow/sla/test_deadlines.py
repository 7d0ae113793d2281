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
from ml_pipelines_airflow.sla.argument import REMOVED, declared_slas, ignore_removal_warning

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


def told_of(dag: DAG) -> list[tuple[str | None, Any]]:
    return [(each.name, each.interval) for each in dag.deadline or []]


def test_airflow_keeps_what_a_task_was_made_with() -> None:
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


def test_airflow_still_says_that_an_sla_does_nothing_in_the_words_that_are_silenced() -> None:
    with pytest.warns(UserWarning, match=REMOVED):
        EmptyOperator(task_id="a", sla=HOUR)


def test_each_length_of_time_has_one_deadline() -> None:
    dag = installed()
    assert told_of(dag) == [("SLA 1:00:00", HOUR), ("SLA 4:00:00", 4 * HOUR)]
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


def test_what_the_callback_is_given_is_what_it_takes() -> None:
    (alert, _) = installed().deadline
    assert set(inspect.signature(sla.report_late_tasks).parameters) == {*alert.callback.kwargs, "context"}


def test_a_dag_without_an_sla_is_left_alone() -> None:
    own = DeadlineAlert(DeadlineReference.DAGRUN_QUEUED_AT, HOUR, AsyncCallback("team.tell"))
    with DAG("plain", schedule=None, deadline=own) as dag:
        EmptyOperator(task_id="a")
    before = dict(vars(dag))
    dag_policy(dag)
    assert vars(dag) == before


def test_a_dag_s_own_deadlines_stay_and_twice_is_as_good_as_once() -> None:
    own = DeadlineAlert(DeadlineReference.DAGRUN_QUEUED_AT, HOUR, AsyncCallback("team.tell"), "own")
    dag = installed(deadline=own)
    assert told_of(dag) == [("own", HOUR), ("SLA 1:00:00", HOUR), ("SLA 4:00:00", 4 * HOUR)]
    once = DagSerialization.serialize_dag(dag)
    dag_policy(dag)
    assert DagSerialization.serialize_dag(dag) == once


def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__ML_PIPELINES__SLA_DEADLINES", "False")
    dag = installed()
    assert dag.deadline is None
    assert "test" not in vars(dag)


def test_switched_off_airflow_says_again_that_it_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__ML_PIPELINES__SLA_DEADLINES", "False")
    ignore_removal_warning()
    with pytest.warns(UserWarning, match="The SLA feature is removed"):
        EmptyOperator(task_id="a", sla=HOUR)


@pytest.mark.filterwarnings("error")
def test_only_that_warning_is_silenced() -> None:
    ignore_removal_warning()
    EmptyOperator(task_id="a", sla=HOUR)
    with pytest.raises(UserWarning, match=r"The SLA feature is removed in Airflow 3\.0, and replaced"):
        DAG("old", schedule=None, sla_miss_callback=work)


@pytest.mark.parametrize("wrong", [4, "4h", timedelta(0), -HOUR, timedelta.max, True, {"hours": 4}], ids=repr)
def test_an_sla_that_is_no_length_of_time_is_an_error(wrong: Any) -> None:
    from airflow.exceptions import AirflowClusterPolicyViolation

    with pytest.raises(AirflowClusterPolicyViolation) as caught:
        installed(default_args={"sla": wrong})
    assert str(caught.value) == (
        "the sla of task 'first' (and of 1 more) in DAG 'churn' is no length of time\n"
        "  expected: a timedelta above zero, of at most 36500 days\n"
        f"  got: {wrong!r}\n"
        "  fix: write sla=timedelta(hours=4), on the task or in default_args; or sla=None for none"
    )


def test_an_error_about_one_task_names_that_one() -> None:
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
def test_the_dag_s_own_notifier_says_where_to_tell(options: dict[str, Any]) -> None:
    assert {tuple(each.callback.kwargs["destination"]) for each in installed(**options).deadline} == {
        ("slack_of_the_team", "#team")
    }


def test_a_task_s_notifier_says_where_to_tell() -> None:
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


def test_a_destination_of_another_kind_is_none() -> None:
    other = Notifier()
    other.destination = "#team"  # type: ignore[assignment]
    (deadline, _) = installed(on_failure_callback=other).deadline
    assert deadline.callback.kwargs["destination"] is None


def test_the_deadlines_survive_serialisation_and_the_version_s_hash_is_stable() -> None:
    data = DagSerialization.serialize_dag(installed())
    assert [each["interval"]["__data__"] for each in data["deadline"]] == [3600.0, 14400.0]
    hashes = {SerializedDagModel.hash(LazyDeserializedDAG.from_dag(installed()).data) for _ in range(3)}
    assert len(hashes) == 1
    assert "test" not in data


COPIES = {
    "deepcopy": copy.deepcopy,
    "partial_subset": lambda dag: dag.partial_subset("mapped"),
    "pickle": lambda dag: pickle.loads(pickle.dumps(dag)),
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copy_tests_itself(copied: Any, monkeypatch: pytest.MonkeyPatch) -> None:
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
        found = self.times.get(msg.task_id)
        if isinstance(found, Exception):
            raise found
        if found is None:
            return comms.PreviousTIResult()
        given = {"task_id": msg.task_id, "dag_id": "churn", "run_id": "manual__1", "try_number": 1, **found}
        return comms.PreviousTIResult(task_instance=PreviousTIResponse(**given))


Told = list[tuple[Destination, dict[str, Any], list[LateTask]]]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    found: Told = []
    monkeypatch.setattr(
        "ml_pipelines_airflow.notifications.slack.notify_late_tasks",
        lambda destination, *, run, late: found.append((destination, run, list(late))),
    )
    return found


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


def test_late_tasks_are_told_and_logged(report: Any, told: Told, caplog: pytest.LogCaptureFixture) -> None:
    answers = Comms(first="success", mapped_0="running", mapped_1="success", last=None)
    answers.times["first"] = {"start_date": BEGUN, "end_date": BEGUN + HOUR, "duration": 3600.0}
    answers.times["mapped"] = {"start_date": NOW - timedelta(seconds=30)}
    with caplog.at_level(logging.WARNING, "ml_pipelines_airflow.sla.deadlines"):
        text = report(answers)
    ((destination, run, late),) = told
    assert (destination, run) == (Destination("slack_of_the_team", "#team"), RUN)
    due = BEGUN + timedelta(seconds=60)
    (each,) = late
    assert due < each.seen == NOW
    assert each == LateTask(
        task="mapped[0]", state="running", due=due, seen=each.seen, sla_seconds=60.0, blame="first took 1 h"
    )
    assert text.startswith("SLA missed in churn, run manual__1: 1 task is late: mapped[0] (running; due at ")
    assert caplog.messages == [text]


def test_without_a_channel_late_tasks_are_only_logged(
    report: Any, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    text = report(Comms(first="running", mapped=None, last=None), destination=None)
    assert told == []
    assert caplog.messages == [text]
    assert caplog.records[0].levelname == "WARNING"


def test_the_configured_channel_is_told_of_dags_without_their_own(
    report: Any, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__ML_PIPELINES__SLACK_CHANNEL", "#everyone")
    report(Comms(first="running"), destination=None)
    monkeypatch.setenv("AIRFLOW__ML_PIPELINES__SLACK_CONN_ID", "slack_two")
    report(Comms(first="running"), destination=None)
    assert [each[0] for each in told] == [
        Destination("slack_api_default", "#everyone"),
        Destination("slack_two", "#everyone"),
    ]


def test_a_webhook_of_the_dag_s_own_needs_no_channel(report: Any, told: Told) -> None:
    report(Comms(first="running"), destination=["webhook", ""])
    assert [each[0] for each in told] == [Destination("webhook", "")]


def test_another_deadline_tells_of_everything_that_is_late_by_then(report: Any, told: Told) -> None:
    context = {"dag_run": RUN, "deadline": {"deadline_time": (BEGUN + timedelta(seconds=200)).isoformat()}}
    report(Comms(first="success", mapped_0="running", last=None), sla_seconds=200.0, context=context)
    ((_, _, late),) = told
    assert [each.task for each in late] == ["last", "mapped[0]"]
    assert late[0].blame == "mapped[0] is running"


def test_a_clock_that_is_behind_makes_nobody_punctual(report: Any, told: Told) -> None:
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
def test_there_is_nothing_to_tell(report: Any, told: Told, answers: Comms, caplog: pytest.LogCaptureFixture) -> None:
    assert report(answers) is None
    assert (told, caplog.messages) == ([], [])


def test_a_failed_run_is_told_if_asked(report: Any, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__ML_PIPELINES__SLA_ALERT_FAILED_RUNS", "True")
    report(Comms("failed", first="failed", mapped="upstream_failed", last="upstream_failed"))
    ((_, _, late),) = told
    assert [(each.task, each.state, each.blame) for each in late] == [
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
def test_times_that_are_not_known_are_not_told(report: Any, told: Told, unknown: Any) -> None:
    answers = Comms(first="running", mapped=None)
    answers.times["first"] = unknown
    report(answers)
    ((_, _, late),) = told
    assert [(each.task, each.blame) for each in late] == [("first", None), ("mapped", "first is running")]


def test_the_triggerer_s_line_can_be_taught_to_read_an_answer() -> None:
    """The contract with the installed Airflow: a copy uses the same line, and decodes by itself."""
    decoder = TriggerCommsDecoder(socket=object(), async_writer=object(), async_reader=object())
    twin = copy.copy(decoder)
    twin.body_decoder = TypeAdapter(comms.PreviousTIResult)
    assert decoder.body_decoder is not twin.body_decoder
    for shared in ("_async_writer", "_async_reader", "_pending", "id_counter"):
        assert getattr(twin, shared) is getattr(decoder, shared)


@pytest.mark.parametrize("date", [None, BEGUN, BEGUN.isoformat()], ids=["none", "datetime", "text"])
def test_times_are_asked_for_the_run_s_own_instance(report: Any, told: Told, date: Any) -> None:
    answers = Comms(first="success", mapped_3="running", last=None)
    answers.times["mapped"] = {"start_date": BEGUN}
    context = {"dag_run": {**RUN, "logical_date": date}, "deadline": {"deadline_time": BEGUN + timedelta(seconds=60)}}
    report(answers, context=context, slas={"last": 60.0})
    (asked,) = [each for each in answers.asked if isinstance(each, comms.GetPreviousTI)]
    assert (asked.task_id, asked.map_index) == ("mapped", 3)
    assert asked.logical_date == (BEGUN + timedelta(microseconds=1) if date else None)


def test_the_number_of_questions_is_bounded(report: Any, told: Told) -> None:
    answers = Comms(**{f"mapped_{number}": "running" for number in range(200)})
    report(answers)
    assert len(told[0][2]) == 200
    assert len([each for each in answers.asked if isinstance(each, comms.GetPreviousTI)]) == sla.MOST_QUESTIONS
