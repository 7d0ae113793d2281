"""Callbacks of a run that report to one Slack message, and a simulated Slack."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any

from tests.simulation.clock import START
from tests.simulation.disk import SimulatedFiles
from tests.simulation.scheduler import Scheduler
from tests.simulation.world import World

from ml_pipelines.errors import PipelineError
from ml_pipelines_airflow.notifications.events import Destination, Event, Headline, RunEvent, RunReference, TaskEvent
from ml_pipelines_airflow.notifications.run_state import RunState, apply_event
from ml_pipelines_airflow.notifications.slack_blocks import replies
from ml_pipelines_airflow.notifications.slack_client import SlackResult
from ml_pipelines_airflow.notifications.slack_delivery import _body, send_updates
from ml_pipelines_airflow.notifications.state_store import RunStateStore

__all__ = ["Channel", "events_of", "report"]

RUN = RunReference(dag_id="churn", run_id="monday", url="http://airflow/run")
DESTINATION = Destination("slack", "#ml")


@dataclass
class Channel:
    """A Slack channel.

    Attributes:
        scheduler: decides what happens between two requests.
        messages: the bodies of the messages by id.
        threads: the texts of the replies by id of the message.
    """

    scheduler: Scheduler
    can_edit: bool = True
    messages: dict[str, dict[str, Any]] = field(default_factory=dict)
    threads: dict[str, list[str]] = field(default_factory=dict)

    def call(self, method: str, body: dict[str, Any], policy: Any) -> SlackResult:
        """Carry out a request; without an answer the status is 0."""
        self.scheduler.pause(f"slack {method}")
        if self.scheduler.is_faulty("refused"):
            return SlackResult(503, "unavailable")
        result = self._carry_out(method, body)
        if self.scheduler.is_faulty("lost"):
            return SlackResult(0, "no answer")
        self.scheduler.pause(f"slack {method} answered")
        return result

    def _carry_out(self, method: str, body: dict[str, Any]) -> SlackResult:
        ts = str(body.get("thread_ts") or body.get("ts") or f"{len(self.messages) + 1}.0")
        if "thread_ts" in body:
            self.threads.setdefault(ts, []).append(body["text"])
        else:
            self.messages[ts] = {name: value for name, value in body.items() if name not in ("ts", "channel")}
        return SlackResult(200, data={"channel": "C1", "ts": ts})


def events_of(random: Random) -> list[Event]:
    """Return the events of a run in the order in which they happened: tasks with retries, then the end."""
    events: list[Event] = []
    for number in range(random.randint(1, 3)):
        tries = random.randint(1, 3)
        for attempt in range(1, tries + 1):
            last = attempt == tries
            failed = random.random() < 0.3
            state = "retrying" if not last else "failed" if failed else "succeeded"
            headline = Headline(text="promoted v1", detail="so") if state == "succeeded" and number == 0 else None
            shared = {"run": RUN, "task": f"task{number}", "try_number": attempt, "tries": tries}
            events.append(TaskEvent(state="started", **shared))
            events.append(TaskEvent(state=state, error="broken", headline=headline, **shared))
    state = "failed" if any(isinstance(event, TaskEvent) and event.state == "failed" for event in events) else "success"
    events.append(RunEvent(run=RUN, state=state, at=START + timedelta(seconds=100), seconds=100.0))
    return events


def report(world: World, event: Event, acknowledged: list[Event]) -> None:
    """Store an event and send it, as the callback of a task does."""
    store = RunStateStore(SimulatedFiles(world.disk), RUN, DESTINATION)
    try:
        added = store.add(event)
        acknowledged.append(event)
        if added:
            send_updates(store)
    except PipelineError:
        return


def state_of(world: World) -> RunState | None:
    """Return the stored state of the run."""
    return RunStateStore(SimulatedFiles(world.disk), RUN, DESTINATION).read()


def check_messages(world: World, channel: Channel, acknowledged: list[Event], faults: int) -> None:
    """Check the state and the channel after the last event was delivered without a fault.

    A fault between an update and its record repeats the posts of that update, as Slack has no idempotent request.
    """
    state, expected = state_of(world), None
    for event in acknowledged:
        expected = apply_event(expected, event)
    assert state is not None, "message: no state is stored"
    assert expected is not None, "message: no event was acknowledged"
    missing = [event for event in acknowledged if apply_event(state, event) is not state]
    assert not missing, f"acknowledged: an event is lost: {missing[0]!r}"
    assert channel.messages, "message: nothing was posted"
    assert len(channel.messages) <= 1 + faults, "message: posted twice without a fault"
    shown = channel.messages.get(state.delivery.ts)
    body = {name: value for name, value in _body(state, DESTINATION).items() if name != "channel"}
    assert shown == body, "message: it does not show the state of the run"
    posted = [text for texts in channel.threads.values() for text in texts]
    lost = [text for text in replies(state).values() if text not in posted]
    assert not lost, f"message: the thread has no reply {lost[0]!r}"
    repeated = [text for text, times in Counter(posted).items() if times > 1 + faults]
    assert not repeated, f"message: without a fault, the thread has the reply {repeated[0]!r} again"
