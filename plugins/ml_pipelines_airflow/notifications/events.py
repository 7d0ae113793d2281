"""Events of a run and of its tasks: plain values that callbacks and SLA deadlines create."""

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

TaskState = Literal["started", "awaiting_input", "retrying", "skipped", "succeeded", "answered", "failed"]


@dataclass(frozen=True, slots=True)
class Destination:
    """A Slack channel, reached by an Airflow connection.

    Attributes:
        connection: an Airflow connection of type `slack` or `slackwebhook`.
        channel: name or id of the channel; empty for a webhook, which has its own.
    """

    connection: str
    channel: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LateTask:
    """A task that did not finish within its SLA.

    Attributes:
        task: task id, `train[2]` for a mapped instance.
        state: Airflow's state, None if the task has not started.
        due: end of the SLA, UTC.
        seen: when the state was read, UTC.
        sla_seconds: length of the SLA, counted from the start of the run.
        cause: clause that names the upstream task that caused the delay; None without one.
    """

    task: str
    state: str | None
    due: datetime
    seen: datetime
    sla_seconds: float
    cause: str | None = None


class Headline(Contract):
    """The result of a run in a few words, reported by one of its tasks.

    Attributes:
        text: a few words, such as "promoted v18 of churn-model"; empty for findings only.
        detail: a sentence for the thread of the message.
        good: whether the result is good; None: neither good nor bad.
        facts: a short line below the text.
        findings: findings of the run as lines of a reply, the most severe first.
    """

    text: str = ""
    detail: str = ""
    good: bool | None = None
    facts: str = ""
    findings: tuple[str, ...] = ()


class RunReference(Contract):
    """Identity of a run; `url` is its page in Airflow."""

    dag_id: str
    run_id: str
    url: str


class TaskEvent(Contract):
    """A change of a task's state.

    Attributes:
        run: run of the task.
        attempt: how often the run had been cleared.
        task: task id, `train[2]` for a mapped instance.
        state: the new state.
        try_number: counted from 1; continues after a task is cleared.
        tries: number of tries before the task fails.
        owner: owner of the task.
        log_url: log of this try.
        error: the most informative line of the error.
        detail: the whole error; the question of a task that awaits input; the answer.
        url: page on which a person answers.
        headline: the result of the run, if this task's success reports it.
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
    """The end of a run: state, time (UTC), duration in seconds, and Airflow's reason."""

    run: RunReference
    attempt: int = 0
    state: Literal["failed", "success"]
    at: AwareDatetime
    seconds: float | None = None
    reason: str = ""


class LateTasksEvent(Contract):
    """The late tasks of a run."""

    run: RunReference
    late: tuple[LateTask, ...]


Event = TaskEvent | RunEvent | LateTasksEvent
