"""Tell Slack what a run's story says: one message, changed as the story goes on, and replies in its thread."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from typing import Any

from ml_pipelines_airflow.notifications.events import Destination
from ml_pipelines_airflow.notifications.run_state import RunState, status
from ml_pipelines_airflow.notifications.slack_blocks import message, replies, section
from ml_pipelines_airflow.notifications.slack_client import Line, Patience, Reply, complaint, connect
from ml_pipelines_airflow.notifications.state_store import Desk, Sent, untold

__all__ = ["talk", "talk_once"]

log = logging.getLogger(__name__)

# Seconds that a run waits for a Slack that does not answer: in all, the first time, and each of two more times. The
# first is the longest, as a message that Slack posts after we have stopped listening is one too many.
_LOST_SECONDS, _FIRST_SECONDS, _MORE_SECONDS = 4.0, 2.2, 0.9
_LIMITED_SECONDS = {"passing": 1.5, "failing": 5.0, "over": 30.0}
_TRY_AGAIN_SECONDS = 60.0
_GONE = frozenset({"message_not_found", "cant_update_message", "edit_window_closed"})
_CATCH_UP_SECONDS, _IN_PASSING = 3.0, Patience(limited=0.0, silent=_MORE_SECONDS)


def talk(desk: Desk) -> None:
    """Tell what is not told yet, unless another is doing so: then that one tells it.

    Raises:
        StoreUnavailable: the store can't be used.
    """
    if _talk(desk, wait_seconds=20.0 if _urgency(desk.story()) == "over" else 0.3):
        _catch_up(desk)


def talk_once(story: RunState, destination: Destination) -> str:
    """Post what a story says, without remembering it. Gives a complaint if that did not work."""
    line = connect(destination)
    if isinstance(line, str):
        return line
    reply = line.call("chat.postMessage", _body(story, destination), _patience(story, Sent()))
    return "" if reply.good else complaint(reply, destination)


def _talk(desk: Desk, *, wait_seconds: float, patience: Patience | None = None) -> bool:
    """True if something was told, and nothing is left to tell."""
    while True:
        with desk.talking(wait_seconds) as mine:
            story = desk.story()
            if not mine or story is None:
                return False
            before = desk.sent()
            after, told = _send(desk, story, before, patience or _patience(story, before))
            if after != before:
                desk.keep(after)
            if told and story.over:
                desk.done()
        # Somebody may have had news and found us talking.
        if desk.story() == story:
            return told and after != before


def _catch_up(desk: Desk) -> None:
    """Slack listens: tell the ends of other runs that it did not hear of."""
    end = time.monotonic() + _CATCH_UP_SECONDS
    for other in untold(desk):
        if time.monotonic() > end or not _talk(other, wait_seconds=0.3, patience=_IN_PASSING):
            return


def _urgency(story: RunState | None) -> str:
    if story and story.over:
        return "over"
    return "failing" if story and status(story) == "failing" else "passing"


def _patience(story: RunState, sent: Sent) -> Patience:
    urgency = _urgency(story)
    silent = _FIRST_SECONDS if sent.lost_seconds == 0 else _MORE_SECONDS
    return Patience(limited=_LIMITED_SECONDS[urgency], silent=silent)


def _is_worth_a_try(story: RunState, sent: Sent) -> bool:
    """Whether to try at all where Slack failed before: for the end always, for all else as long as it costs little."""
    if sent.failed_at is None or story.over:
        return True
    if sent.lost_seconds + 2 * _MORE_SECONDS > _LOST_SECONDS + 0.2:
        return False
    return _urgency(story) == "failing" or time.time() - sent.failed_at > _TRY_AGAIN_SECONDS


def _send(desk: Desk, story: RunState, sent: Sent, patience: Patience) -> tuple[Sent, bool]:
    """Send what is not sent. Gives what was, and whether the message says all."""
    body = _body(story, desk.destination)
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    due = {key: text for key, text in replies(story).items() if key not in sent.replies}
    if digest == sent.digest and not due:
        return sent, True
    if not _is_worth_a_try(story, sent):
        return sent, False
    line = connect(desk.destination)
    if isinstance(line, str):
        return _failed(sent, line, 0.0), False
    if not line.edits:
        return _post_by_webhook(line, story, sent, (body, desk.destination, patience))
    began = time.monotonic()
    if digest != sent.digest:
        reply = _put(line, body, sent, patience)
        if not reply.good:
            return _undone(reply, sent, desk.destination, time.monotonic() - began), False
        sent = _remembered(sent, reply, digest)
    return _reply(line, due, sent), True


def _put(line: Line, body: dict[str, Any], sent: Sent, patience: Patience) -> Reply:
    """Change the message, or post it if there is none (any more)."""
    if sent.ts:
        reply = line.call("chat.update", {**body, "channel": sent.channel, "ts": sent.ts}, patience)
        if reply.error not in _GONE:
            return reply
    return line.call("chat.postMessage", body, patience)


def _remembered(sent: Sent, reply: Reply, digest: str) -> Sent:
    channel, ts = str(reply.data.get("channel", "")), str(reply.data.get("ts", ""))
    # A message that was posted anew has no thread yet; what is in the old one's is not said again.
    return sent.model_copy(update={"channel": channel, "ts": ts, "digest": digest, "failed_at": None})


def _reply(line: Line, due: dict[str, str], sent: Sent) -> Sent:
    patience = Patience(limited=_LIMITED_SECONDS["failing"], silent=_MORE_SECONDS)
    for key, text in due.items():
        body = {"channel": sent.channel, "thread_ts": sent.ts, "text": text, "unfurl_links": False}
        if not line.call("chat.postMessage", body, patience).good:
            break  # They stay due, and the message itself says the most important.
        sent = sent.model_copy(update={"replies": (*sent.replies, key)})
    return sent


def _post_by_webhook(
    line: Line, story: RunState, sent: Sent, what: tuple[dict[str, Any], Destination, Patience]
) -> tuple[Sent, bool]:
    """What is posted once is the first failure, the first lateness and the end, each with its details."""
    body, destination, patience = what
    due = [key for key in _worth_a_post(story) if key not in sent.posted]
    if not due:
        return sent, True
    details = [section(text) for text in list(replies(story).values())[:3]]
    began = time.monotonic()
    reply = line.call("webhook", {**body, "blocks": body["blocks"] + details}, patience)
    if not reply.good:
        return _undone(reply, sent, destination, time.monotonic() - began), False
    return sent.model_copy(update={"posted": (*sent.posted, *due), "failed_at": None}), True


def _worth_a_post(story: RunState) -> list[str]:
    if story.over:
        return [f"over {story.attempt}"]
    return ["failing"] * (status(story) == "failing") + ["late"] * bool(story.late)


def _undone(reply: Reply, sent: Sent, destination: Destination, seconds: float) -> Sent:
    if reply.busy:
        log.info("%s; the next news or another run will tell", complaint(reply, destination))
        return sent
    return _failed(sent, complaint(reply, destination), seconds if reply.outage else 0.0)


def _failed(sent: Sent, why: str, seconds: float) -> Sent:
    if not sent.complaint:
        log.warning("%s. The tasks go on; this is said once a run.", why)
    lost = sent.lost_seconds + seconds
    return sent.model_copy(update={"complaint": why, "failed_at": time.time(), "lost_seconds": lost})


def _body(story: RunState, destination: Destination) -> dict[str, Any]:
    text, blocks = message(story)
    quiet = {"unfurl_links": False, "unfurl_media": False}
    return {"channel": destination.channel, "text": text, "blocks": blocks, **quiet}
