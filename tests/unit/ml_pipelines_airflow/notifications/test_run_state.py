"""Laws of a run's story: what is known does not depend on the order in which it was heard of."""

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
from ml_pipelines_airflow.notifications.run_state import RunState, after, lateness, recovered, status

RUN = RunReference(dag_id="churn", run_id="r1", url="http://airflow/dags/churn/runs/r1")
NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
MOMENTS = st.integers(0, 90).map(lambda minutes: NOON + timedelta(minutes=minutes))

task_news = st.builds(
    TaskEvent,
    run=st.just(RUN),
    attempt=st.integers(0, 2),
    task=st.sampled_from(["ingest", "train[0]", "train[1]"]),
    state=st.sampled_from(get_args(TaskState)),
    try_number=st.integers(1, 4),
    owner=st.sampled_from(["", "ann", "bob"]),
    headline=st.none() | st.builds(Headline, text=st.sampled_from(["promoted", "rejected"])),
)
run_news = st.builds(
    RunEvent, run=st.just(RUN), attempt=st.integers(0, 2), state=st.sampled_from(["success", "failed"]), at=MOMENTS
)
late_tasks_event = st.builds(
    LateTasksEvent,
    run=st.just(RUN),
    late=st.lists(
        st.builds(
            LateTask,
            task=st.sampled_from(["ingest", "train[0]"]),
            state=st.sampled_from([None, "running"]),
            due=MOMENTS,
            sla_seconds=st.just(60.0),
        ),
        max_size=3,
    ).map(tuple),
)
anything = st.lists(task_news | run_news | late_tasks_event, min_size=1, max_size=12)


def told(news: list[Any], story: RunState | None = None) -> RunState:
    for each in news:
        story = after(story, each)
    assert story is not None
    return story


def of_task(state: TaskState, try_number: int = 1, **more: Any) -> TaskEvent:
    return TaskEvent(run=RUN, task="train", state=state, try_number=try_number, **more)


def ended(state: Any, attempt: int = 0) -> RunEvent:
    return RunEvent(run=RUN, attempt=attempt, state=state, at=NOON, seconds=60)


@given(anything)
def test_the_same_news_again_change_nothing(news: list[Event]) -> None:
    story = told(news)
    for each in news:
        # A first try that went well is only kept of a task that is talked about, which it may have become since.
        story = after(story, each)
    assert all(after(story, each) is story for each in news)


def heard_otherwise(news: list[Event]) -> st.SearchStrategy[list[Event]]:
    """The same news in another order; one try of a task is a single process, so what it tells keeps its order."""

    def process(each: Event) -> object:
        return (each.task, each.try_number) if isinstance(each, TaskEvent) else None

    def as_told(mixed: list[Event]) -> list[Event]:
        left = {process(each): [other for other in news if process(other) == process(each)] for each in mixed}
        return [each if process(each) is None else left[process(each)].pop(0) for each in mixed]

    return st.permutations(news).map(as_told)


@given(anything.flatmap(lambda news: st.tuples(st.just(news), heard_otherwise(news))))
def test_the_order_does_not_matter_for_what_the_run_is_doing(orders: tuple[list[Event], list[Event]]) -> None:
    one, other = map(told, orders)
    assert (status(one), one.ended, one.late, one.headlines) == (
        status(other),
        other.ended,
        other.late,
        other.headlines,
    )
    assert {name: task.troubles for name, task in one.tasks.items() if task.troubles} == {
        name: task.troubles for name, task in other.tasks.items() if task.troubles
    }


@given(anything)
def test_what_has_ended_goes_on_only_if_it_was_cleared(news: list[Event]) -> None:
    story = told(news)
    for each in news:
        if story.over and not isinstance(each, RunEvent):
            again = after(story, each)
            assert again.over == story.over or again.attempt > story.attempt


@given(anything)
def test_a_story_survives_being_written_down(news: list[Event]) -> None:
    story = told(news)
    assert RunState.model_validate_json(story.model_dump_json()) == story


@given(anything)
def test_only_what_had_trouble_recovers(news: list[Event]) -> None:
    for task in told(news).tasks.values():
        assert not recovered(task) or task.troubles


def test_a_first_try_that_goes_well_is_not_written_down() -> None:
    story = told([of_task("started")])
    assert after(story, of_task("succeeded")) is story
    assert story.tasks == {}


def test_a_task_recovers_although_its_trouble_is_heard_of_later() -> None:
    story = told([of_task("succeeded", 2), of_task("retrying", 1)])
    assert recovered(story.tasks["train"])
    assert status(story) == "running"


def test_a_cleared_run_is_another_attempt() -> None:
    story = told([of_task("failed", 3), ended("failed")])
    assert status(story) == "failed"
    story = told([of_task("started", 4, attempt=1)], story)
    assert (story.over, status(story)) == (None, "running")
    assert status(told([of_task("succeeded", 4, attempt=1), ended("success", attempt=1)], story)) == "success"


def test_what_needs_somebody_counts_most() -> None:
    held = TaskEvent(run=RUN, task="ask", state="held")
    assert status(told([held, of_task("retrying")])) == "held"
    assert status(told([held, of_task("failed")])) == "failing"


def test_lateness_is_counted_from_the_last_sla() -> None:
    late = [
        LateTask(task=name, state="running", due=NOON - timedelta(minutes=minutes), seen=NOON, sla_seconds=60)
        for name, minutes in (("a", 25), ("b", 40))
    ]
    story = told([LateTasksEvent(run=RUN, late=tuple(late))])
    assert lateness(story) is None
    assert lateness(told([ended("success")], story)) == timedelta(minutes=25)


def test_of_a_late_task_counts_what_was_seen_last() -> None:
    waiting = LateTask(task="a", state="scheduled", due=NOON, seen=NOON, sla_seconds=60)
    running = LateTask(task="a", state="running", due=NOON, seen=NOON + timedelta(minutes=1), sla_seconds=60)
    heard = [LateTasksEvent(run=RUN, late=(each,)) for each in (running, waiting)]
    assert told(heard).late == told(heard[::-1]).late == {"a": running}
