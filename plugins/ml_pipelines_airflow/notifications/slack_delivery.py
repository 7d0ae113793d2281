"""Delivery of a run's state to Slack: one message, edited as the state changes, and replies in its thread."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from ml_pipelines._utils.canonical_json import json_digest
from ml_pipelines_airflow.notifications.events import Destination
from ml_pipelines_airflow.notifications.run_state import Delivery, RunState, same_events, status
from ml_pipelines_airflow.notifications.slack_blocks import message, replies, section
from ml_pipelines_airflow.notifications.slack_client import RetryPolicy, SlackClient, SlackResult, connect, error_text
from ml_pipelines_airflow.notifications.state_store import RunStateStore, pending_runs

__all__ = ["REPLY_POLICY", "post_once", "send_updates"]

log = logging.getLogger(__name__)

Urgency = Literal["routine", "failing", "ended"]

# Seconds that a run waits for a Slack that does not answer: in total, at the first request, and at each later one. The
# first is the longest: a message that Slack posts after the timeout would be posted a second time.
_TOTAL_UNANSWERED, _FIRST_UNANSWERED, _LATER_UNANSWERED = 4.0, 2.2, 0.9
_RATE_LIMITED_SECONDS: dict[Urgency, float] = {"routine": 2.5, "failing": 6.0, "ended": 30.0}
_SENDING_SECONDS: dict[Urgency, float] = {"routine": 0.3, "failing": 0.3, "ended": 20.0}
_RETRY_AFTER_SECONDS = 60.0
_MISSING_MESSAGE = frozenset({"message_not_found", "cant_update_message", "edit_window_closed"})
_PENDING_SECONDS = 3.0
_PENDING_POLICY = RetryPolicy(rate_limited=0.0, unanswered=_LATER_UNANSWERED)
REPLY_POLICY = RetryPolicy(rate_limited=_RATE_LIMITED_SECONDS["failing"], unanswered=_LATER_UNANSWERED)
"""Limits of one reply. A reply that Slack posts after the limit is posted a second time."""
_MAX_WEBHOOK_DETAILS = 3


def send_updates(store: RunStateStore) -> None:
    """Send the changes of a run that Slack has not received, then the ends of other runs that are pending.

    If another process is sending messages about the run, that process sends these changes as well.

    Raises:
        StoreUnavailable: the store can't be used.
    """
    if _send_all(store, wait_seconds=_SENDING_SECONDS[_urgency(store.read())]):
        _send_pending(store)


def post_once(state: RunState, destination: Destination) -> str:
    """Post a message about a state without storing it. Return the error, empty after a success."""
    client = connect(destination)
    if isinstance(client, str):
        return client
    result = client.call("chat.postMessage", _body(state, destination), _policy(state))
    return "" if result.ok else error_text(result, destination)


def _send_all(store: RunStateStore, *, wait_seconds: float, policy: RetryPolicy | None = None) -> bool:
    """Send until Slack shows the stored state. Return whether this call sent something and nothing is left."""
    while True:
        with store.sending(wait_seconds) as acquired:
            state = store.read()
            if not acquired or state is None:
                return False
            delivery, complete = _Update(state, store.destination, policy or _policy(state)).send()
            changed = delivery != state.delivery
            if changed or (complete and state.end):
                store.record(state, delivery, complete=complete)
        # Another process may have added an event meanwhile, and left it to this one.
        if (latest := store.read()) is None or same_events(latest, state):
            return complete and changed


def _send_pending(store: RunStateStore) -> None:
    deadline = time.monotonic() + _PENDING_SECONDS
    for other in pending_runs(store):
        if time.monotonic() > deadline or not _send_all(other, wait_seconds=0.3, policy=_PENDING_POLICY):
            return


def _urgency(state: RunState | None) -> Urgency:
    if state and state.end:
        return "ended"
    return "failing" if state and status(state) == "failing" else "routine"


def _policy(state: RunState) -> RetryPolicy:
    unanswered = _FIRST_UNANSWERED if state.delivery.waited_seconds == 0 else _LATER_UNANSWERED
    return RetryPolicy(rate_limited=_RATE_LIMITED_SECONDS[_urgency(state)], unanswered=unanswered)


def _should_try(state: RunState) -> bool:
    """Return whether to contact a Slack that failed before: always for the end, else within the total time limit."""
    delivery = state.delivery
    if delivery.failed_at is None or state.end:
        return True
    if delivery.waited_seconds + 2 * _LATER_UNANSWERED > _TOTAL_UNANSWERED + 0.2:
        return False
    return _urgency(state) == "failing" or time.time() - delivery.failed_at > _RETRY_AFTER_SECONDS


@dataclass(frozen=True, slots=True)
class _Update:
    """One delivery of a state: the message or its edit, then the replies that are missing in its thread."""

    state: RunState
    destination: Destination
    policy: RetryPolicy

    def send(self) -> tuple[Delivery, bool]:
        """Send what is missing. Return the delivery, and whether the message shows the whole state."""
        delivery, body = self.state.delivery, _body(self.state, self.destination)
        digest = json_digest(body)
        missing = {key: text for key, text in replies(self.state).items() if key not in delivery.replies}
        if digest == delivery.digest and not missing:
            return delivery, True
        if not _should_try(self.state):
            return delivery, False
        client = connect(self.destination)
        if isinstance(client, str):
            return _with_failure(delivery, client), False
        if not client.can_edit:
            return self._post_by_webhook(client, body)
        if digest != delivery.digest:
            delivery, shown = self._put(client, body, digest)
            if not shown:
                return delivery, False
        return _reply(client, missing, delivery), True

    def _put(self, client: SlackClient, body: dict[str, Any], digest: str) -> tuple[Delivery, bool]:
        """Edit the message, or post it if it does not exist."""
        delivery, started = self.state.delivery, time.monotonic()
        post = partial(client.call, "chat.postMessage", body, self.policy)
        if delivery.ts:
            edit = {**body, "channel": delivery.channel, "ts": delivery.ts}
            result = client.call("chat.update", edit, self.policy)
            result = post() if result.error in _MISSING_MESSAGE else result
        else:
            result = post()
        if not result.ok:
            return self._failed(result, time.monotonic() - started), False
        message_id = {"channel": str(result.data.get("channel", "")), "ts": str(result.data.get("ts", ""))}
        # A message that replaces a deleted one has an empty thread; the replies of the deleted one are not repeated.
        return delivery.model_copy(update={**message_id, "digest": digest, "failed_at": None}), True

    def _post_by_webhook(self, client: SlackClient, body: dict[str, Any]) -> tuple[Delivery, bool]:
        """Post the first failure, the first late task and the end, each with its details."""
        delivery, started = self.state.delivery, time.monotonic()
        missing = [key for key in _webhook_posts(self.state) if key not in delivery.posted]
        if not missing:
            return delivery, True
        details = [section(text) for text in list(replies(self.state).values())[:_MAX_WEBHOOK_DETAILS]]
        result = client.call("webhook", {**body, "blocks": body["blocks"] + details}, self.policy)
        if not result.ok:
            return self._failed(result, time.monotonic() - started), False
        return delivery.model_copy(update={"posted": (*delivery.posted, *missing), "failed_at": None}), True

    def _failed(self, result: SlackResult, seconds: float) -> Delivery:
        error = error_text(result, self.destination)
        if result.rate_limited:
            log.info("%s; the next event of this or another run sends it", error)
            return self.state.delivery
        return _with_failure(self.state.delivery, error, seconds if result.unanswered else 0.0)


_NO_LINKS = {"parse": "none", "unfurl_links": False}


def _reply(client: SlackClient, missing: dict[str, str], delivery: Delivery) -> Delivery:
    for key, text in missing.items():
        body = {"channel": delivery.channel, "thread_ts": delivery.ts, "text": text, **_NO_LINKS}
        if not client.call("chat.postMessage", body, REPLY_POLICY).ok:
            break  # The next update sends them; the message already shows the essentials.
        delivery = delivery.model_copy(update={"replies": (*delivery.replies, key)})
    return delivery


def _webhook_posts(state: RunState) -> list[str]:
    if state.end:
        return [f"ended {state.attempt}"]
    return ["failing"] * (status(state) == "failing") + ["late"] * bool(state.late)


def _with_failure(delivery: Delivery, error: str, seconds: float = 0.0) -> Delivery:
    if not delivery.error:
        log.warning("%s. The tasks continue; this is logged once per run.", error)
    waited = delivery.waited_seconds + seconds
    return delivery.model_copy(update={"error": error, "failed_at": time.time(), "waited_seconds": waited})


def _body(state: RunState, destination: Destination) -> dict[str, Any]:
    text, blocks = message(state)
    return {
        "channel": destination.channel,
        "text": text,
        "blocks": blocks,
        "unfurl_links": False,
        "unfurl_media": False,
    }
