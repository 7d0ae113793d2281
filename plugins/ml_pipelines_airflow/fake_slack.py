"""A fake server of Slack's API, for tests of code that sends messages to Slack.

::

    with SlackServer() as slack:
        os.environ["AIRFLOW_CONN_SLACK_API_DEFAULT"] = slack.connection()
        ...                       # run a DAG in this process or in another
        (message,) = slack.messages
        assert "succeeded" in message.text

It serves HTTP on the loopback interface, checks the token and the limits of Block Kit, and stores the messages that a
channel shows. It needs neither Airflow nor Slack's SDK.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message as HttpMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs

__all__ = ["Answer", "Call", "Message", "SlackServer"]

TOKEN = "xoxb-not-a-real-token"  # noqa: S105  a token of tests
WEBHOOK = "T000/B000/not-a-real-webhook"


@dataclass(frozen=True, slots=True)
class Answer:
    """A prepared answer, sent instead of the real one.

    Attributes:
        status: HTTP status.
        error: Slack's error code, such as `invalid_auth`; with status 200.
        retry_after: seconds in the header of a 429.
    """

    status: int = 200
    error: str = ""
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A request (`chat.postMessage`, `chat.update` or `webhook`) with its answer; `at` is a monotonic time."""

    method: str
    body: dict[str, Any]
    token: str
    status: int
    error: str
    at: float


@dataclass(slots=True)
class Message:
    """A message in a channel.

    Attributes:
        channel: id of the channel, `CNAME` for a channel `#name`; `webhook` for the channel of a webhook.
        ts: Slack's id of the message.
        body: body of the last request for this message: `text`, `blocks`, `attachments`.
        edits: number of edits.
        replies: messages in the thread.
    """

    channel: str
    ts: str
    body: dict[str, Any]
    edits: int = 0
    replies: list[Message] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The fallback text, which notifications and screen readers use."""
        return str(self.body.get("text", ""))

    @property
    def blocks(self) -> list[dict[str, Any]]:
        """All blocks, including those of attachments."""
        return list(_blocks(self.body))

    @property
    def shown(self) -> str:
        """The texts of all blocks, one per line; the fallback text without blocks."""
        return "\n".join(text for block in self.blocks for text in _texts(block)) or self.text


class SlackServer:
    """The fake server, a context manager. Tests may change its attributes while it runs.

    Attributes:
        token: the only valid token.
        channels: ids and names of existing channels; None: all channels exist.
        limit_per_second: maximum of requests per second, above which the answer is 429; None: no limit.
        next: prepared answers to the next requests, one each.
        always: prepared answer to every request, None for real answers.
        calls: all requests.
        messages: messages of all channels; replies are within their message.
    """

    def __init__(self, *, limit_per_second: float | None = None) -> None:
        self.token = TOKEN
        self.channels: set[str] | None = None
        self.limit_per_second = limit_per_second
        self.next: deque[Answer] = deque()
        self.always: Answer | None = None
        self.calls: list[Call] = []
        self.messages: list[Message] = []
        self._lock = threading.Lock()
        self._served: deque[float] = deque()
        self._number = 0
        self._http = _Http(("127.0.0.1", 0), _Handler)
        self._http.slack = self

    def __enter__(self) -> SlackServer:
        """Start the server."""
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        """Stop the server."""
        self._http.shutdown()
        self._http.server_close()

    @property
    def url(self) -> str:
        """The address of the Web API; ends in `/api/`."""
        return f"http://127.0.0.1:{self._http.server_port}/api/"

    def connection(self, **extra: Any) -> str:
        """Return an Airflow connection of type `slack` to this server, as JSON."""
        return json.dumps({"conn_type": "slack", "password": self.token, "extra": {"base_url": self.url, **extra}})

    def webhook(self, **extra: Any) -> str:
        """Return an Airflow connection of type `slackwebhook` to this server, as JSON."""
        host = self.url.removesuffix("api/") + "services"
        return json.dumps({"conn_type": "slackwebhook", "host": host, "password": WEBHOOK, "extra": extra})

    def sent(self, method: str) -> list[Call]:
        """Return the successful calls of a method."""
        return [call for call in list(self.calls) if call.method == method and call.status == 200 and not call.error]

    def delete(self, message: Message) -> None:
        """Delete a message, as a user of Slack can."""
        self.messages.remove(message)

    def handle(self, path: str, token: str, body: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of the answer to a request."""
        method = "webhook" if path.startswith("/services/") else path.removeprefix("/api/")
        with self._lock:
            answer = self.always or (self.next.popleft() if self.next else None) or self._limited()
            fields: dict[str, Any] = {}
            if answer is None:
                valid = path == f"/services/{WEBHOOK}" if method == "webhook" else token == self.token
                answer, fields = self._serve(method, body) if valid else (Answer(error="invalid_auth"), {})
            self.calls.append(Call(method, body, token, answer.status, answer.error, time.monotonic()))
        headers = {} if answer.retry_after is None else {"Retry-After": str(answer.retry_after)}
        if method == "webhook":
            status = 403 if answer.error == "invalid_auth" else 400 if answer.error else answer.status
            return status, headers, (answer.error or "ok").encode()
        error = answer.error or ("ratelimited" if answer.status == 429 else "internal_error")
        ok = answer.status == 200 and not answer.error
        return answer.status, headers, json.dumps({"ok": True, **fields} if ok else _refusal(error)).encode()

    def _limited(self) -> Answer | None:
        if self.limit_per_second is None:
            return None
        now = time.monotonic()
        while self._served and now - self._served[0] > 1:
            self._served.popleft()
        if len(self._served) >= self.limit_per_second:
            return Answer(status=429, retry_after=1)
        self._served.append(now)
        return None

    def _serve(self, method: str, body: dict[str, Any]) -> tuple[Answer, dict[str, Any]]:
        if method == "auth.test":
            return Answer(), {"team": "Test", "user": "bot"}
        if method not in ("chat.postMessage", "chat.update", "webhook"):
            return Answer(error="unknown_method"), {}
        if error := _body_error(body):
            return Answer(error=error), {}
        if method == "webhook":
            self.messages.append(Message("webhook", self._new_ts(), body))
            return Answer(), {}
        name = str(body.get("channel", ""))
        channel = _channel_id(name)
        # An edit requires the id of the channel.
        if (self.channels is not None and name not in self.channels and channel not in self.channels) or (
            method == "chat.update" and name != channel
        ):
            return Answer(error="channel_not_found"), {}
        message = self._update(channel, body) if method == "chat.update" else self._post(channel, body)
        return (
            (Answer(), {"channel": channel, "ts": message.ts}) if message else (Answer(error="message_not_found"), {})
        )

    def _post(self, channel: str, body: dict[str, Any]) -> Message:
        message = Message(channel, self._new_ts(), body)
        parent = self._find(channel, str(body.get("thread_ts", "")))
        (parent.replies if parent else self.messages).append(message)
        return message

    def _update(self, channel: str, body: dict[str, Any]) -> Message | None:
        message = self._find(channel, str(body.get("ts", "")))
        if message:
            message.body, message.edits = body, message.edits + 1
        return message

    def _find(self, channel: str, ts: str) -> Message | None:
        replies = (reply for message in self.messages for reply in message.replies)
        messages = [*self.messages, *replies]
        return next((message for message in messages if (message.channel, message.ts) == (channel, ts)), None)

    def _new_ts(self) -> str:
        self._number += 1
        return f"{1_700_000_000 + self._number}.{self._number:06d}"


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    slack: SlackServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors: the client may have closed the connection."""


class _Handler(BaseHTTPRequestHandler):
    server: _Http

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        status, headers, answer = self.server.slack.handle(self.path, token, _parsed(data, self.headers))
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(answer)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


def _parsed(data: bytes, headers: HttpMessage) -> dict[str, Any]:
    if "json" in headers.get("Content-Type", ""):
        body: dict[str, Any] = json.loads(data)
    else:
        body = {name: values[0] for name, values in parse_qs(data.decode()).items()}
    for name in ("blocks", "attachments"):
        if isinstance(body.get(name), str):
            body[name] = json.loads(body[name])
    return body


def _channel_id(name: str) -> str:
    return name if re.fullmatch(r"[CDG][A-Z0-9_-]+", name) else "C" + name.lstrip("#").upper()


def _refusal(error: str) -> dict[str, Any]:
    needed = {"needed": "chat:write:bot", "provided": "none"} if error == "missing_scope" else {}
    return {"ok": False, "error": error, **needed}


def _blocks(body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield from body.get("blocks") or []
    for attachment in body.get("attachments") or []:
        yield from attachment.get("blocks") or []


def _texts(block: Mapping[str, Any]) -> Iterator[str]:
    pieces = [block.get("text"), *(block.get("fields") or []), *(block.get("elements") or [])]
    yield from (str(piece["text"]) for piece in pieces if isinstance(piece, Mapping) and "text" in piece)


def _body_error(body: Mapping[str, Any]) -> str:
    """Return Slack's error code for the body of a message, empty for a valid body."""
    blocks = list(_blocks(body))
    if not body.get("text") and not blocks:
        return "no_text"
    if len(str(body.get("text", ""))) > 40_000:
        return "msg_too_long"
    return "" if len(blocks) <= 50 and all(map(_is_valid_block, blocks)) else "invalid_blocks"


def _is_valid_block(block: Mapping[str, Any]) -> bool:
    limits = {"header": 150, "section": 3000, "context": 3000}
    kind = str(block.get("type"))
    texts = list(_texts(block))
    if kind == "divider":
        return True
    if kind == "header" and (block.get("text") or {}).get("type") != "plain_text":
        return False
    fits = all(0 < len(text) <= limits.get(kind, 0) for text in texts)
    return bool(texts) and fits and len(block.get("elements") or []) <= 10
