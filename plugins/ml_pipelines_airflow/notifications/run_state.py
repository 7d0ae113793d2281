"""The state of a run, built from events, together with the record of what Slack has received.

Applying an event is idempotent, and the order of events from parallel tasks does not matter. The latest try decides
the state of a task, and the latest attempt decides the state of the run. Clearing tasks of a run starts a new attempt.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Literal, get_args

from pydantic import Field

from ml_pipelines.contracts import Contract
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

__all__ = [
    "Delivery",
    "RunState",
    "Status",
    "TaskRunState",
    "apply_event",
    "delay",
    "has_recovered",
    "same_events",
    "state_from_events",
    "status",
]

Status = Literal["running", "retrying", "awaiting_input", "failing", "failed", "success"]

# Within one try, a state further down this list happened later.
_RANK = {state: rank for rank, state in enumerate(get_args(TaskState))}
_FAILURES: frozenset[TaskState] = frozenset({"retrying", "failed"})
_STATUS_BY_PRIORITY: tuple[tuple[TaskState, Status], ...] = (
    ("failed", "failing"),
    ("awaiting_input", "awaiting_input"),
    ("retrying", "retrying"),
)


class Delivery(Contract):
    """What Slack has received about a run.

    Attributes:
        channel: id of the channel, which an edit of the message requires.
        ts: Slack's id of the message; empty before the first post.
        digest: SHA-256 of the message body.
        replies: keys of the replies in the thread.
        posted: keys of the posts of a webhook, which cannot edit a message.
        error: the first error of a delivery, logged once.
        failed_at: time of the latest failure, seconds since the epoch; None after a success.
        waited_seconds: total time spent on requests that Slack did not answer.
    """

    channel: str = ""
    ts: str = ""
    digest: str = ""
    replies: tuple[str, ...] = ()
    posted: tuple[str, ...] = ()
    error: str = ""
    failed_at: float | None = None
    waited_seconds: float = 0.0


_NOTHING_SENT = Delivery()


class TaskRunState(Contract):
    """The latest event of a task, and the failure of each try."""

    latest: TaskEvent
    failures: dict[int, TaskEvent] = Field(default_factory=dict)


class RunState(Contract):
    """The state of a run.

    Attributes:
        run: identity of the run.
        attempt: how often the run has been cleared.
        owners: owners of the tasks with events, sorted.
        tasks: tasks that failed, waited or were retried, by name.
        headlines: try number and headline by task.
        late: late tasks by name.
        ended: the latest end of the run.
        delivery: what Slack has received.
    """

    run: RunReference
    attempt: int = 0
    owners: tuple[str, ...] = ()
    tasks: dict[str, TaskRunState] = Field(default_factory=dict)
    headlines: dict[str, tuple[int, Headline]] = Field(default_factory=dict)
    late: dict[str, LateTask] = Field(default_factory=dict)
    ended: RunEvent | None = None
    delivery: Delivery = Field(default_factory=Delivery)

    @property
    def end(self) -> RunEvent | None:
        """The end of the current attempt, None while it runs."""
        return self.ended if self.ended and self.ended.attempt >= self.attempt else None


def apply_event(state: RunState | None, event: Event) -> RunState:
    """Return the state after an event; the same object if the event changes nothing."""
    old = state or RunState(run=event.run)
    if isinstance(event, LateTasksEvent):
        new = old.model_copy(update={"late": _merge_late(old.late, event.late)})
    elif isinstance(event, RunEvent):
        new = old.model_copy(
            update={"ended": _latest_end(old.ended, event), "attempt": max(old.attempt, event.attempt)}
        )
    else:
        new = _apply_task_event(old, event)
    return state if state == new else new


def state_from_events(events: Iterable[Event], delivery: Delivery = _NOTHING_SENT) -> RunState | None:
    """Return the state after all events, in any order; None without events."""
    state = None
    for event in sorted(events, key=_time_order):
        state = apply_event(state, event)
    return state and state.model_copy(update={"delivery": delivery})


def _time_order(event: Event) -> tuple[int, int, str]:
    return _event_order(event) if isinstance(event, TaskEvent) else (0, 0, event.model_dump_json())


def same_events(state: RunState | None, other: RunState) -> bool:
    """Return whether two states differ in their delivery at most."""
    return state is not None and state.model_copy(update={"delivery": other.delivery}) == other


def _apply_task_event(old: RunState, event: TaskEvent) -> RunState:
    owners = {*old.owners, event.owner} - {""}
    changes = {"attempt": max(old.attempt, event.attempt), "owners": tuple(sorted(owners))}
    previous = old.tasks.get(event.task)
    if _is_notable(event, previous):
        changes["tasks"] = dict(sorted({**old.tasks, event.task: _merge_task(previous, event)}.items()))
    if event.headline:
        headline = max(old.headlines.get(event.task), (event.try_number, event.headline), key=_headline_order)
        changes["headlines"] = dict(sorted({**old.headlines, event.task: headline}.items()))
    return old.model_copy(update=changes)


def _headline_order(headline: tuple[int, Headline] | None) -> tuple[int, str]:
    return (headline[0], headline[1].model_dump_json()) if headline else (-1, "")


def _is_notable(event: TaskEvent, previous: TaskRunState | None) -> bool:
    # A successful first try is not stored. The success of a later try may arrive before the failure of the first.
    return event.state not in ("started", "succeeded", "skipped") or event.try_number > 1 or previous is not None


def _merge_task(previous: TaskRunState | None, event: TaskEvent) -> TaskRunState:
    latest = max(previous.latest, event, key=_event_order) if previous else event
    failures = dict(previous.failures) if previous else {}
    if event.state in _FAILURES:
        failures[event.try_number] = max(failures.get(event.try_number, event), event, key=_event_order)
    return TaskRunState(latest=latest, failures=dict(sorted(failures.items())))


def _event_order(event: TaskEvent) -> tuple[int, int, str]:
    return event.try_number, _RANK[event.state], event.model_dump_json()


def _merge_late(previous: dict[str, LateTask], late: tuple[LateTask, ...]) -> dict[str, LateTask]:
    merged = dict(previous)
    for entry in late:
        merged[entry.task] = max(merged.get(entry.task, entry), entry, key=_late_order)
    return dict(sorted(merged.items()))


def _late_order(late: LateTask) -> tuple[object, ...]:
    return late.seen, late.due, late.sla_seconds, late.state or "", late.cause or ""


def _latest_end(previous: RunEvent | None, event: RunEvent) -> RunEvent:
    return max(previous or event, event, key=lambda end: (end.attempt, end.at, end.model_dump_json()))


def status(state: RunState) -> Status:
    """Return the status of a run: its end, or the most urgent state of its tasks."""
    if state.end:
        return state.end.state
    states = {task.latest.state for task in state.tasks.values()}
    return next((result for task_state, result in _STATUS_BY_PRIORITY if task_state in states), "running")


def has_recovered(task: TaskRunState) -> bool:
    """Return whether a task succeeded after a failed try."""
    return task.latest.state == "succeeded" and any(number < task.latest.try_number for number in task.failures)


def delay(state: RunState) -> timedelta | None:
    """Return how long after its latest SLA a run with late tasks ended; None while it runs."""
    if not state.end or not state.late:
        return None
    return max(state.end.at - max(late.due for late in state.late.values()), timedelta(0))
