"""A Slack client on the hooks of the Slack provider and the retry handlers of slack_sdk, bounded in time.

The handlers of slack_sdk limit the number of attempts, not the time. A task must not wait long for Slack.
So each handler here stops when the time limit of its request leaves no room for another attempt.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from slack_sdk.http_retry.builtin_handlers import (
    ConnectionErrorRetryHandler,
    RateLimitErrorRetryHandler,
    ServerErrorRetryHandler,
)
from slack_sdk.http_retry.builtin_interval_calculators import FixedValueRetryIntervalCalculator
from slack_sdk.http_retry.handler import RetryHandler

from ml_pipelines_airflow.notifications.events import Destination

__all__ = ["RetryPolicy", "SlackClient", "SlackResult", "connect", "error_text"]

Body = dict[str, Any]

_TOO_MANY_REQUESTS = 429
_PAUSE_SECONDS = 0.3
_MIN_ATTEMPT_SECONDS = 0.5
_MAX_ATTEMPTS = 10
# A rate-limited process that handles many runs, such as the DAG processor, waits at most this long per window.
_WINDOW_SECONDS, _MAX_WAIT_SECONDS = 60.0, 30.0

_TOKEN_FIX = "put a valid bot token (xoxb-...) into its password"  # noqa: S105  not a password
_FIXES = {
    "account_inactive": _TOKEN_FIX,
    "channel_not_found": "correct the channel; a private channel is visible to its members only: /invite the bot",
    "invalid_auth": _TOKEN_FIX,
    "is_archived": "name a channel that is not archived",
    "missing_scope": "give the Slack app the scope chat:write and install it again",
    "not_authed": _TOKEN_FIX,
    "not_in_channel": "/invite the bot to the channel",
    "token_expired": _TOKEN_FIX,
    "token_revoked": _TOKEN_FIX,
}


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Time limits of a request with its retries, in seconds.

    Attributes:
        rate_limited: total of the pauses that Slack asks for (HTTP 429).
        unanswered: total of all attempts and pauses while Slack is unreachable or reports a server error.
    """

    rate_limited: float
    unanswered: float


@dataclass(frozen=True, slots=True)
class SlackResult:
    """The result of a request.

    Attributes:
        status: HTTP status, 0 without an answer.
        error: Slack's error code or the network's error; empty after a success.
        data: the answer.
    """

    status: int
    error: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the request succeeded."""
        return self.status == 200 and not self.error

    @property
    def rate_limited(self) -> bool:
        """Whether Slack asked for fewer requests."""
        return self.status == _TOO_MANY_REQUESTS

    @property
    def unanswered(self) -> bool:
        """Whether Slack is unreachable or reported a server error."""
        return self.status == 0 or self.status >= 500


@dataclass(frozen=True, slots=True)
class SlackClient:
    """Sends requests to Slack.

    Attributes:
        can_edit: whether a message can be edited; a webhook can only post.
        client: `WebClient` or `WebhookClient` of slack_sdk.
        send: sends one request, with the handlers and the timeout of `client`.
    """

    can_edit: bool
    client: Any
    send: Callable[[str, Body], SlackResult]

    def call(self, method: str, body: Body, policy: RetryPolicy) -> SlackResult:
        """Send a request, and retry it within the limits of a policy."""
        limit = TimeLimit(self.client, policy)
        results: list[SlackResult] = []
        # In a thread, as the resolver of host names has no timeout.
        thread = threading.Thread(target=lambda: results.append(self.send(method, body)), daemon=True)
        thread.start()
        while thread.is_alive() and (seconds := limit.remaining()) > -0.1:
            thread.join(seconds + 0.1)
        return results[0] if results else SlackResult(0, f"no answer in {policy.unanswered:.1f} s")


class TimeLimit:
    """The time limit of one request and its retries. It sets the handlers and the timeout of a slack_sdk client."""

    def __init__(self, client: Any, policy: RetryPolicy) -> None:
        self._client, self._policy = client, policy
        self._longest = min(client.timeout, policy.unanswered)
        self._deadline = time.monotonic() + policy.unanswered
        self._rate_limited = 0.0
        client.timeout = self._longest
        client.retry_handlers = _handlers(self)

    def remaining(self) -> float:
        """Return the seconds until the deadline."""
        return self._deadline - time.monotonic()

    def allows_retry(self, pause: float) -> bool:
        """Return whether an attempt after a pause can end before the deadline."""
        return self.remaining() > pause + _MIN_ATTEMPT_SECONDS

    def allows_rate_limit_pause(self, pause: float) -> bool:
        """Return whether a pause that Slack asks for fits into the policy, and extend the deadline by it."""
        self._rate_limited += pause
        if self._rate_limited > self._policy.rate_limited or not _reserve_wait(pause):
            return False
        self._deadline += pause
        return True

    def limit_attempt(self) -> None:
        """Set the timeout of the next attempt to the time that remains."""
        self._client.timeout = min(self._longest, max(self.remaining(), _MIN_ATTEMPT_SECONDS))


_waits: deque[tuple[float, float]] = deque()


def _reserve_wait(seconds: float) -> bool:
    now = time.monotonic()
    while _waits and now - _waits[0][0] > _WINDOW_SECONDS:
        _waits.popleft()
    if sum(waited for _, waited in _waits) + seconds > _MAX_WAIT_SECONDS:
        return False
    _waits.append((now, seconds))
    return True


class TimeLimitedHandler(RetryHandler):
    """A retry handler of slack_sdk that stops at a time limit."""

    def __init__(self, handler: RetryHandler, limit: TimeLimit) -> None:
        super().__init__(_MAX_ATTEMPTS)
        self._handler, self._limit = handler, limit

    def _can_retry(self, *, response: Any = None, **attempt: Any) -> bool:
        if not self._handler.can_retry(response=response, **attempt):
            return False
        if isinstance(self._handler, RateLimitErrorRetryHandler):
            # The handler adds a random part of a second, so that clients do not return at the same moment.
            return self._limit.allows_rate_limit_pause(_retry_after(response.headers) + 1)
        return self._limit.allows_retry(_PAUSE_SECONDS)

    def prepare_for_next_attempt(self, **attempt: Any) -> None:
        """Wait, and set the timeout of the next attempt."""
        self._handler.prepare_for_next_attempt(**attempt)
        self._limit.limit_attempt()


def _handlers(limit: TimeLimit) -> list[RetryHandler]:
    pause = FixedValueRetryIntervalCalculator(_PAUSE_SECONDS)
    handlers = (
        RateLimitErrorRetryHandler(_MAX_ATTEMPTS),
        ConnectionErrorRetryHandler(_MAX_ATTEMPTS, pause),
        ServerErrorRetryHandler(_MAX_ATTEMPTS, pause),
    )
    return [TimeLimitedHandler(handler, limit) for handler in handlers]


def connect(destination: Destination) -> SlackClient | str:
    """Return the client of a connection, or the reason why the connection can't be used."""
    from airflow.providers.common.compat.sdk import AirflowException, BaseHook

    name = destination.connection
    try:
        connection = BaseHook.get_connection(name)
        if connection.conn_type == "slackwebhook":
            return _webhook_client(name)
        if not destination.channel:
            return f"the connection {name!r} needs a channel, as a bot has none of its own; set one"
        return _web_api_client(name)
    except AirflowException as exc:
        fix = "create it in Airflow (type Slack API, the bot's token as its password)"
        return f"the connection {name!r} can't be used: {exc}; {fix}"


def error_text(result: SlackResult, destination: Destination) -> str:
    """Return the text of a failed request, with a fix for the errors that users can correct."""
    name = destination.connection
    if result.rate_limited:
        return f"Slack accepts no more messages for now (connection {name!r})"
    if result.unanswered:
        return f"Slack can't be reached by connection {name!r}: {result.error or f'status {result.status}'}"
    refused = f"Slack refused the message ({result.error}) with connection {name!r}, channel {destination.channel!r}"
    return f"{refused}: {_FIXES[result.error]}" if result.error in _FIXES else refused


def _web_api_client(name: str) -> SlackClient:
    from airflow.providers.slack.hooks.slack import SlackHook
    from slack_sdk.errors import SlackApiError

    client = SlackHook(slack_conn_id=name, logger=_silent_log()).client

    def send(method: str, body: Body) -> SlackResult:
        try:
            answer = client.api_call(method, json=body)
        except SlackApiError as exc:
            return _refusal(exc.response)
        except Exception as exc:  # no error of the network may fail a task
            return SlackResult(0, f"{type(exc).__name__}: {exc}")
        data = answer.data if isinstance(answer.data, dict) else {}
        # Another server than Slack answers without them, and the next edit and the replies need them.
        identified = all(isinstance(data.get(name), str) and data[name] for name in ("channel", "ts"))
        return SlackResult(200, data=data) if identified else SlackResult(0, "an answer without the id of the message")

    return SlackClient(can_edit=True, client=client, send=send)


def _refusal(answer: Any) -> SlackResult:
    """Return the result of a refused request from slack_sdk's response, a dictionary if the body is not JSON."""
    if isinstance(answer, Mapping):
        status, data = int(answer.get("status") or 0), {}
    else:
        status, data = answer.status_code, answer.data
    error = str(data.get("error") or "") if isinstance(data, Mapping) else ""
    return SlackResult(status, error or f"status {status}")


def _webhook_client(name: str) -> SlackClient:
    from airflow.providers.slack.hooks.slack_webhook import SlackWebhookHook

    client = SlackWebhookHook(slack_webhook_conn_id=name, logger=_silent_log()).client

    def send(method: str, body: Body) -> SlackResult:
        try:
            answer = client.send_dict({key: body[key] for key in ("text", "blocks")})
        except Exception as exc:  # no error of the network may fail a task
            return SlackResult(0, f"{type(exc).__name__}: {exc}")
        # The page of a proxy can have status 200 too.
        accepted = answer.status_code == 200 and str(answer.body).strip() == "ok"
        error = "" if accepted else str(answer.body or f"status {answer.status_code}")[:100]
        return SlackResult(answer.status_code, error)

    return SlackClient(can_edit=False, client=client, send=send)


def _retry_after(headers: Mapping[str, Any]) -> float:
    value = next((value for name, value in headers.items() if name.lower() == "retry-after"), 1)
    try:
        return max(float(value[0] if isinstance(value, list) else value), 0.0)
    except ValueError:
        return 1.0


def _silent_log() -> logging.Logger:
    # slack_sdk logs every failed request as an error; the sender logs one line per run.
    log = logging.getLogger(f"{__name__}.sdk")
    log.setLevel(logging.CRITICAL)
    return log
