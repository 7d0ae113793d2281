"""What there is to say about a run, and to whom: plain values, made by callbacks and by the SLA."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime

from ml_pipelines.contracts import Contract

__all__ = [
    "Destination",
    "Event",
    "Headline",
    "LateTask",
    "LateTasksEvent",
    "RunEvent",
    "RunReference",
    "TaskEvent",
    "TaskState",
]

TaskState = Literal["started", "held", "retrying", "skipped", "succeeded", "answered", "failed"]


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a run is talked about.

    Attributes:
        connection: an Airflow connection of type `slack` or `slackwebhook`.
        channel: in Slack; a webhook has its own.
    """

    connection: str
    channel: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LateTask:
    """A task that was not done within its SLA.

    Attributes:
        task: its id, `train[2]` for one of several mapped ones.
        state: as Airflow names it, None if it has not begun.
        due: when it should have been done, UTC.
        seen: when this was so, UTC.
        sla_seconds: the time it had from the run's start.
        blame: a sentence about the task before it that used the time; None if it used it itself.
    """

    task: str
    state: str | None
    due: datetime
    seen: datetime
    sla_seconds: float
    blame: str | None = None


class Headline(Contract):
    """What a run is about, when a task has found that out.

    Attributes:
        text: a few words, such as "promoted v18 of churn-model".
        detail: a sentence for the message's thread.
        good: whether that is good news; None: neither.
        facts: a short line under the text.
    """

    text: str
    detail: str = ""
    good: bool | None = None
    facts: str = ""


class RunReference(Contract):
    """Which run; `url` is where Airflow shows it."""

    dag_id: str
    run_id: str
    url: str


class TaskEvent(Contract):
    """What happened to a task.

    Attributes:
        run: whose.
        attempt: how often the run had been cleared by then.
        task: its id, `train[2]` for one of several mapped ones.
        state: what became of it.
        try_number: counted from 1; goes on when a task is cleared.
        tries: how many it has.
        owner: who is asked about it.
        log_url: of this try.
        error: the error's last line.
        detail: more of the error; for a task that waits for a person what is asked; the answer.
        url: where a person answers.
        headline: what its success means for the run.
    """

    run: RunReference
    attempt: int = 0
    task: str
    state: TaskState
    try_number: int = 1
    tries: int = 1
    owner: str = ""
    log_url: str = ""
    error: str = ""
    detail: str = ""
    url: str = ""
    headline: Headline | None = None


class RunEvent(Contract):
    """How a run ended: when (UTC), after how many seconds, and why."""

    run: RunReference
    attempt: int = 0
    state: Literal["failed", "success"]
    at: AwareDatetime
    seconds: float | None = None
    reason: str = ""


class LateTasksEvent(Contract):
    """The tasks of a run that are late."""

    run: RunReference
    late: tuple[LateTask, ...]


Event = TaskEvent | RunEvent | LateTasksEvent
