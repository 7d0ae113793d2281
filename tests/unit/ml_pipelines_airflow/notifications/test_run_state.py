"""Properties of a run's state: it does not depend on the order of events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, get_args

from hypothesis import given
from hypothesis import strategies as st

from ml_pipelines_airflow.notifications.events import (
    Event,
    Headline,
    LateTask,
    LateTasksEvent,
    RunEvent,
    RunReference,
    TaskEvent,
    TaskState,
)
from ml_pipelines_airflow.notifications.run_state import (
    Delivery,
    RunState,
    apply_event,
    delay,
    has_recovered,
    same_events,
    status,
)

RUN = RunReference(dag_id="churn", run_id="r1", url="http://airflow/dags/churn/runs/r1")
NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
TIMES = st.integers(0, 90).map(lambda minutes: NOON + timedelta(minutes=minutes))

task_events = st.builds(
    TaskEvent,
    run=st.just(RUN),
    attempt=st.integers(0, 2),
    task=st.sampled_from(["ingest", "train[0]", "train[1]"]),
    state=st.sampled_from(get_args(TaskState)),
    try_number=st.integers(1, 4),
    owner=st.sampled_from(["", "ann", "bob"]),
    headline=st.none() | st.builds(Headline, text=st.sampled_from(["promoted", "rejected"])),
)
run_events = st.builds(
    RunEvent, run=st.just(RUN), attempt=st.integers(0, 2), state=st.sampled_from(["success", "failed"]), at=TIMES
)
late_events = st.builds(
    LateTasksEvent,
    run=st.just(RUN),
    late=st.lists(
        st.builds(
            LateTask,
            task=st.sampled_from(["ingest", "train[0]"]),
            state=st.sampled_from([None, "running"]),
            due=TIMES,
            sla_seconds=st.just(60.0),
        ),
        max_size=3,
    ).map(tuple),
)
event_lists = st.lists(task_events | run_events | late_events, min_size=1, max_size=12)


def state_after(events: list[Any], state: RunState | None = None) -> RunState:
    for event in events:
        state = apply_event(state, event)
    assert state is not None
    return state


def task_event(state: TaskState, try_number: int = 1, **fields: Any) -> TaskEvent:
    return TaskEvent(run=RUN, task="train", state=state, try_number=try_number, **fields)


def run_event(state: Any, attempt: int = 0) -> RunEvent:
    return RunEvent(run=RUN, attempt=attempt, state=state, at=NOON, seconds=60)


@given(event_lists)
def test_apply_event_is_idempotent(events: list[Event]) -> None:
    state = state_after(events)
    for event in events:
        # A successful first try is stored only for a task that failed, which may have happened since.
        state = apply_event(state, event)
    assert all(apply_event(state, event) is state for event in events)


def reordered(events: list[Event]) -> st.SearchStrategy[list[Event]]:
    """Return the events in another order, except that the events of one try of a task keep their order."""

    def process(event: Event) -> object:
        return (event.task, event.try_number) if isinstance(event, TaskEvent) else None

    def restore_order(mixed: list[Event]) -> list[Event]:
        queues = {process(event): [other for other in events if process(other) == process(event)] for event in mixed}
        return [event if process(event) is None else queues[process(event)].pop(0) for event in mixed]

    return st.permutations(events).map(restore_order)


@given(event_lists.flatmap(lambda events: st.tuples(st.just(events), reordered(events))))
def test_apply_event_does_not_depend_on_the_order(orders: tuple[list[Event], list[Event]]) -> None:
    one, other = map(state_after, orders)
    assert (status(one), one.ended, one.late, one.headlines) == (
        status(other),
        other.ended,
        other.late,
        other.headlines,
    )
    assert {name: task.failures for name, task in one.tasks.items() if task.failures} == {
        name: task.failures for name, task in other.tasks.items() if task.failures
    }


@given(event_lists)
def test_apply_event_reopens_an_ended_run_only_with_a_new_attempt(events: list[Event]) -> None:
    state = state_after(events)
    for event in events:
        if state.end and not isinstance(event, RunEvent):
            later = apply_event(state, event)
            assert later.end == state.end or later.attempt > state.attempt


@given(event_lists)
def test_run_state_survives_a_round_trip_through_json(events: list[Event]) -> None:
    state = state_after(events)
    assert RunState.model_validate_json(state.model_dump_json()) == state


@given(event_lists)
def test_has_recovered_requires_a_failure(events: list[Event]) -> None:
    for task in state_after(events).tasks.values():
        assert not has_recovered(task) or task.failures


def test_apply_event_does_not_store_a_successful_first_try() -> None:
    state = state_after([task_event("started")])
    assert apply_event(state, task_event("succeeded")) is state
    assert state.tasks == {}


def test_has_recovered_if_the_failure_arrives_after_the_success() -> None:
    state = state_after([task_event("succeeded", 2), task_event("retrying", 1)])
    assert has_recovered(state.tasks["train"])
    assert status(state) == "running"


def test_status_of_a_cleared_run_is_that_of_the_new_attempt() -> None:
    state = state_after([task_event("failed", 3), run_event("failed")])
    assert status(state) == "failed"
    state = state_after([task_event("started", 4, attempt=1)], state)
    assert (state.end, status(state)) == (None, "running")
    state = state_after([task_event("succeeded", 4, attempt=1), run_event("success", attempt=1)], state)
    assert status(state) == "success"


def test_status_is_the_most_urgent_state_of_the_tasks() -> None:
    waiting = TaskEvent(run=RUN, task="ask", state="awaiting_input")
    assert status(state_after([waiting, task_event("retrying")])) == "awaiting_input"
    assert status(state_after([waiting, task_event("failed")])) == "failing"


def test_same_events_ignores_the_delivery() -> None:
    state = state_after([task_event("failed", 3)])
    sent = state.model_copy(update={"delivery": Delivery(ts="1")})
    assert same_events(sent, state)
    assert not same_events(None, state)
    assert not same_events(state_after([run_event("failed")], state), state)


def test_delay_counts_from_the_latest_sla() -> None:
    late = [
        LateTask(task=name, state="running", due=NOON - timedelta(minutes=minutes), seen=NOON, sla_seconds=60)
        for name, minutes in (("a", 25), ("b", 40))
    ]
    state = state_after([LateTasksEvent(run=RUN, late=tuple(late))])
    assert delay(state) is None
    assert delay(state_after([run_event("success")], state)) == timedelta(minutes=25)


def test_apply_event_keeps_the_latest_state_of_a_late_task() -> None:
    waiting = LateTask(task="a", state="scheduled", due=NOON, seen=NOON, sla_seconds=60)
    running = LateTask(task="a", state="running", due=NOON, seen=NOON + timedelta(minutes=1), sla_seconds=60)
    events = [LateTasksEvent(run=RUN, late=(late,)) for late in (running, waiting)]
    assert state_after(events).late == state_after(events[::-1]).late == {"a": running}
