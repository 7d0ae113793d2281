"""What is known of a run, and how news adds to it.

A story is the join of all news: the same again changes nothing, and the order in which parallel tasks are heard of
does not matter. Of a task counts what its latest try came to; of the run how its latest attempt ended, where clearing
tasks of a run makes a new attempt of it.
"""

from __future__ import annotations

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

__all__ = ["RunState", "Status", "TaskRunState", "after", "recovered", "status", "told_of"]

Status = Literal["running", "retrying", "held", "failing", "failed", "success"]

# Of two things heard of one try the one further on here came later.
_RANK = {state: rank for rank, state in enumerate(get_args(TaskState))}
_TROUBLES: frozenset[TaskState] = frozenset({"retrying", "failed"})


class TaskRunState(Contract):
    """What is known of a task: the latest, and each try that failed."""

    latest: TaskEvent
    troubles: dict[int, TaskEvent] = Field(default_factory=dict)


class RunState(Contract):
    """What is known of a run.

    Attributes:
        run: which.
        attempt: how often it has been cleared.
        owners: of the tasks that were heard of, sorted.
        tasks: those that something happened to, by name.
        headlines: by the task that found them.
        late: by task.
        ended: the last time it ended.
    """

    run: RunReference
    attempt: int = 0
    owners: tuple[str, ...] = ()
    tasks: dict[str, TaskRunState] = Field(default_factory=dict)
    headlines: dict[str, tuple[int, Headline]] = Field(default_factory=dict)
    late: dict[str, LateTask] = Field(default_factory=dict)
    ended: RunEvent | None = None

    @property
    def over(self) -> RunEvent | None:
        """How the run ended, None while it goes on."""
        return self.ended if self.ended and self.ended.attempt >= self.attempt else None


def after(story: RunState | None, news: Event) -> RunState:
    """The story with the news in it; the same object if it held them already."""
    old = story or RunState(run=news.run)
    if isinstance(news, LateTasksEvent):
        new = old.model_copy(update={"late": _joined_late(old.late, news.late)})
    elif isinstance(news, RunEvent):
        new = old.model_copy(update={"ended": _later_end(old.ended, news), "attempt": max(old.attempt, news.attempt)})
    else:
        new = _after_task(old, news)
    return story if story == new else new


def _after_task(old: RunState, news: TaskEvent) -> RunState:
    owners = {*old.owners, news.owner} - {""}
    changes = {"attempt": max(old.attempt, news.attempt), "owners": tuple(sorted(owners))}
    if _is_worth_keeping(news, old.tasks.get(news.task)):
        told = _joined_task(old.tasks.get(news.task), news)
        changes["tasks"] = dict(sorted({**old.tasks, news.task: told}.items()))
    if news.headline:
        found = max(old.headlines.get(news.task), (news.try_number, news.headline), key=_try_of)
        changes["headlines"] = dict(sorted({**old.headlines, news.task: found}.items()))
    return old.model_copy(update=changes)


def _try_of(headline: tuple[int, Headline] | None) -> tuple[int, str]:
    return (headline[0], headline[1].model_dump_json()) if headline else (-1, "")


def _is_worth_keeping(news: TaskEvent, known: TaskRunState | None) -> bool:
    # A first try that goes well is nothing to write down; a later one may be heard of before the one that failed.
    return news.state not in ("started", "succeeded", "skipped") or news.try_number > 1 or known is not None


def _joined_task(known: TaskRunState | None, news: TaskEvent) -> TaskRunState:
    latest = max(known.latest, news, key=_place) if known else news
    troubles = dict(known.troubles) if known else {}
    if news.state in _TROUBLES:
        troubles[news.try_number] = max(troubles.get(news.try_number, news), news, key=_place)
    return TaskRunState(latest=latest, troubles=dict(sorted(troubles.items())))


def _place(news: TaskEvent) -> tuple[int, int, str]:
    return news.try_number, _RANK[news.state], news.model_dump_json()


def _joined_late(known: dict[str, LateTask], late: tuple[LateTask, ...]) -> dict[str, LateTask]:
    joined = dict(known)
    for each in late:
        joined[each.task] = max(joined.get(each.task, each), each, key=_late_place)
    return dict(sorted(joined.items()))


def _late_place(late: LateTask) -> tuple[object, ...]:
    return late.seen, late.due, late.sla_seconds, late.state or "", late.blame or ""


def _later_end(known: RunEvent | None, news: RunEvent) -> RunEvent:
    return max(known, news, key=lambda end: (end.attempt, end.at, end.model_dump_json())) if known else news


def status(story: RunState) -> Status:
    """What the run is doing."""
    if story.over:
        return story.over.state
    states = {each.latest.state for each in story.tasks.values()}
    order: tuple[tuple[TaskState, Status], ...] = (("failed", "failing"), ("held", "held"), ("retrying", "retrying"))
    return next((word for state, word in order if state in states), "running")


def recovered(task: TaskRunState) -> bool:
    """Whether a task went well after trouble."""
    return task.latest.state == "succeeded" and any(number < task.latest.try_number for number in task.troubles)


def lateness(story: RunState) -> timedelta | None:
    """How long after the last of its SLAs a run ended that had late tasks; None if it goes on."""
    if not story.over or not story.late:
        return None
    return max(story.over.at - max(each.due for each in story.late.values()), timedelta(0))


def told_of(news: Event) -> RunState:
    """A story of nothing but one piece of news, for when nothing can be remembered."""
    return after(None, news)
