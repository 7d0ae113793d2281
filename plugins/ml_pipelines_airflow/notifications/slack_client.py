"""The line to Slack: requests by the Slack provider's hooks, with a time limit and as many tries as fit into it.

Slack's SDK has handlers that try again, but none that knows when to stop: a task must not wait for Slack, however
long it asks for.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ml_pipelines_airflow.notifications.events import Destination

__all__ = ["Line", "Patience", "Reply", "complaint", "connect"]

Body = dict[str, Any]
Request = Callable[[str, Body, float], "Reply"]

_TOO_MANY = 429
_FIRST_PAUSE_SECONDS = 0.3
_LEAST_SECONDS = 0.5
# A process that tells of many runs, as the DAG processor does, may itself not take for ever.
_WINDOW_SECONDS, _MOST_SECONDS = 60.0, 30.0

_MEND_AUTH = "put a valid bot token (xoxb-...) into its password"
_FIXES = {
    "account_inactive": _MEND_AUTH,
    "channel_not_found": "correct the channel; a private one is only found once the bot is in it: /invite the bot",
    "invalid_auth": _MEND_AUTH,
    "is_archived": "name a channel that is in use",
    "missing_scope": "give the Slack app the scope chat:write and install it again",
    "not_authed": _MEND_AUTH,
    "not_in_channel": "/invite the bot to the channel",
    "token_expired": _MEND_AUTH,
    "token_revoked": _MEND_AUTH,
}


@dataclass(frozen=True, slots=True)
class Patience:
    """How many seconds to go on where Slack says "too many requests", and where it does not answer or is broken."""

    limited: float
    silent: float


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back.

    Attributes:
        status: of HTTP, 0 if nothing came.
        error: Slack's word for what is wrong, or that of the network; empty if all is well.
        data: the answer.
        retry_after: seconds, of a 429.
    """

    status: int
    error: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    retry_after: float = 1.0

    @property
    def good(self) -> bool:
        """Whether it was done."""
        return self.status == 200 and not self.error

    @property
    def busy(self) -> bool:
        """Whether Slack wants fewer requests."""
        return self.status == _TOO_MANY

    @property
    def outage(self) -> bool:
        """Whether Slack can't be reached or is broken."""
        return self.status == 0 or self.status >= 500


@dataclass(frozen=True, slots=True)
class Line:
    """Where requests go; `edits`: whether a message can be changed later, which a webhook can't."""

    edits: bool
    request: Request

    def call(self, method: str, body: Body, patience: Patience) -> Reply:
        """Make a request, again and again while patience lasts where that may help."""
        silent = limited = 0.0
        pause = _FIRST_PAUSE_SECONDS
        while True:
            began = time.monotonic()
            seconds = max(patience.silent - silent, _LEAST_SECONDS)
            reply = _within(seconds, partial(self.request, method, body, seconds))
            if reply.busy:
                # Those who were told the same do not come back at the same moment.
                wait = reply.retry_after + random.random()  # noqa: S311  no secret
                limited += wait
                if limited > patience.limited or not _allowed(wait):
                    return reply
            elif reply.outage:
                wait, pause = pause, pause * 2
                silent += time.monotonic() - began + wait
                if silent + _LEAST_SECONDS > patience.silent:
                    return reply
            else:
                return reply
            time.sleep(wait)


_waits: deque[tuple[float, float]] = deque()


def _allowed(seconds: float) -> bool:
    now = time.monotonic()
    while _waits and now - _waits[0][0] > _WINDOW_SECONDS:
        _waits.popleft()
    if sum(waited for _, waited in _waits) + seconds > _MOST_SECONDS:
        return False
    _waits.append((now, seconds))
    return True


def _within(seconds: float, request: Callable[[], Reply]) -> Reply:
    """The reply, or none if it takes longer; the resolver of names has no time limit of its own."""
    replies: list[Reply] = []
    thread = threading.Thread(target=lambda: replies.append(request()), daemon=True)
    thread.start()
    thread.join(seconds + 0.1)
    return replies[0] if replies else Reply(0, f"no answer in {seconds:.1f} s")


def connect(destination: Destination) -> Line | str:
    """The line by a connection, or a sentence that says why there is none."""
    from airflow.providers.common.compat.sdk import AirflowException, AirflowNotFoundException, BaseHook

    name = destination.connection
    try:
        connection = BaseHook.get_connection(name)
        if connection.conn_type == "slackwebhook":
            return Line(edits=False, request=_webhook(name))
        if not destination.channel:
            return f"no channel is named for the connection {name}, and a bot has none of its own: name one"
        return Line(edits=True, request=_web_api(name))
    except (AirflowNotFoundException, AirflowException) as exc:
        fix = "make it in Airflow (type Slack API, the bot's token as its password)"
        return f"the connection {name!r} can't be used: {exc}; {fix}"


def complaint(reply: Reply, destination: Destination) -> str:
    """A sentence that says what is wrong and how to mend it."""
    name = destination.connection
    if fix := _FIXES.get(reply.error):
        return f"Slack refused ({reply.error}) with connection {name!r}, channel {destination.channel!r}: {fix}"
    if reply.busy:
        return f"Slack took no more messages for now (connection {name!r})"
    if reply.outage:
        return f"Slack can't be reached by connection {name!r}: {reply.error or f'status {reply.status}'}"
    return f"Slack refused with connection {name!r}, channel {destination.channel!r}: {reply.error}"


def _web_api(name: str) -> Request:
    from airflow.providers.slack.hooks.slack import SlackHook
    from slack_sdk.errors import SlackApiError

    client = SlackHook(slack_conn_id=name, retry_handlers=[], logger=_silent_log()).client
    longest = client.timeout

    def request(method: str, body: Body, seconds: float) -> Reply:
        client.timeout = min(seconds, longest)  # type: ignore[assignment]  # a fraction will do
        try:
            answer = client.api_call(method, json=body)
        except SlackApiError as exc:
            return _refusal(exc.response)
        except Exception as exc:  # whatever the network says, a task goes on
            return Reply(0, _named(exc))
        return Reply(200, data=answer.data if isinstance(answer.data, dict) else {})

    return request


def _refusal(answer: Any) -> Reply:
    """From what the SDK keeps of an answer: its own object, or a dictionary if the answer was no JSON."""
    if isinstance(answer, Mapping):
        status, headers, data = int(answer.get("status") or 0), answer.get("headers") or {}, {}
    else:
        status, headers, data = answer.status_code, answer.headers, answer.data
    error = str(data.get("error") or "") if isinstance(data, Mapping) else ""
    return Reply(status, error or f"status {status}", retry_after=_retry_after(headers))


def _webhook(name: str) -> Request:
    from airflow.providers.slack.hooks.slack_webhook import SlackWebhookHook

    hook = SlackWebhookHook(slack_webhook_conn_id=name, retry_handlers=[], logger=_silent_log())
    client = hook.client
    longest = client.timeout

    def request(method: str, body: Body, seconds: float) -> Reply:
        client.timeout = min(seconds, longest)  # type: ignore[assignment]  # a fraction will do
        try:
            answer = client.send_dict({key: body[key] for key in ("text", "blocks")})
        except Exception as exc:  # whatever the network says, a task goes on
            return Reply(0, _named(exc))
        error = "" if answer.status_code == 200 else str(answer.body or f"status {answer.status_code}")[:100]
        return Reply(answer.status_code, error, retry_after=_retry_after(answer.headers))

    return request


def _retry_after(headers: Mapping[str, Any]) -> float:
    told = next((value for key, value in headers.items() if key.lower() == "retry-after"), 1)
    try:
        return max(float(told[0] if isinstance(told, list) else told), 0.0)
    except ValueError:
        return 1.0


def _named(exc: Exception) -> str:
    return f"{type(exc).__name__}: {exc}"


def _silent_log() -> logging.Logger:
    # The SDK logs every failed request as an error; we say it once a run.
    log = logging.getLogger(f"{__name__}.sdk")
    log.setLevel(logging.CRITICAL)
    return log
