"""Malformed answers of Airflow's API, Slack and web servers end in an error of this package, and never mean success.

`ML_PIPELINES_FUZZ_INPUTS` sets the number of inputs of each kind. The seed of an input is its number.
"""

from __future__ import annotations

import json
import os
import random
import socketserver
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from ml_pipelines.adapters.files.source import FileDataSource
from ml_pipelines.errors import PipelineError, SourceNotFound
from ml_pipelines.spec.sources import FileSource
from ml_pipelines_airflow.notifications.events import Destination
from ml_pipelines_airflow.notifications.slack_client import RetryPolicy, SlackClient, connect, error_text
from ml_pipelines_airflow.release.airflow_client import AirflowApi
from ml_pipelines_airflow.release.summary import post_to_slack

pytestmark = pytest.mark.timeout(3000)

INPUTS = int(os.environ.get("ML_PIPELINES_FUZZ_INPUTS", "0"))
SECRET = "xoxb-4159-K7MDENGbPxRfiCY"
STATUSES = (200, 200, 200, 201, 204, 206, 301, 302, 307, 400, 403, 404, 409, 412, 429, 500, 502, 503, 504)
SCALARS = (None, "", "x", 0, 1, -1, 1e300, True, [], {}, "\0", "ok", ["ok"], {"a": 1})
PAGES = (
    b"", b"null", b"{}", b"[]", b'"x"', b"<html>login</html>", b"{", b"\xff\xfe", b"[" * 3000, b"ok", b"OK\n", b"1",
    b'{"ok": true}', b'{"ok": false}', b'{"ok": false, "error": 1}', b'{"ok": "yes"}', b'{"ok": true, "ts": 1}',
)  # fmt: skip


def inputs(default: int) -> range:
    return range(INPUTS or default)


@dataclass
class Reply:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    length: str | None = None
    closed: bool = False


def damaged(rng: random.Random, right: Reply) -> Reply:
    """An answer in place of the right one."""
    kind = rng.randrange(6)
    if kind == 0:
        body = rng.choice((*PAGES, json.dumps({"ok": False, "error": rng.choice(SCALARS)}).encode()))
        location = {"Location": rng.choice(("/", "", "x:y", "http://127.0.0.1:9/"))} if rng.random() < 0.5 else {}
        after = {"Retry-After": rng.choice(("1", "x", "nan", "inf", "-1", "1e999", ""))} if rng.random() < 0.5 else {}
        return Reply(rng.choice(STATUSES), body, location | after)
    if kind == 1:
        return Reply(200, rng.choice(PAGES), {"Content-Type": rng.choice(("text/html", "application/json", "\xff"))})
    if kind == 2:
        return Reply(
            right.status, right.body[: rng.randrange(len(right.body) + 1)], right.headers, str(len(right.body) + 9)
        )
    if kind == 3:
        return Reply(right.status, right.body, right.headers, rng.choice(("-1", "x", "1e3", "9" * 30, "")))
    if kind == 4:
        return Reply(closed=True, body=rng.choice((b"", b"HTTP/1.1\r\n\r\n", b"garbage\r\n\r\n", b"\0" * 90)))
    data = bytearray(right.body)
    for _ in range(rng.choice((1, 2, 9))):
        if data:
            data[rng.randrange(len(data))] = rng.randrange(256)
    return Reply(right.status, bytes(data), right.headers)


class Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while line := self.rfile.readline():
            method, target, _ = line.decode("latin-1").split(" ")
            lines = [text.decode("latin-1").partition(":") for text in iter(self.rfile.readline, b"\r\n")]
            headers = {name.lower(): value.strip() for name, _, value in lines}
            self.rfile.read(int(headers.get("content-length", 0)))
            reply = self.server.world.reply(method, target)
            if reply.closed:
                self.wfile.write(reply.body)
                return
            length = str(len(reply.body)) if reply.length is None else reply.length
            text = f"HTTP/1.1 {reply.status} x\r\nContent-Length: {length}\r\n"
            text += "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items())
            body = b"" if method == "HEAD" or reply.status in (204, 304) else reply.body
            self.wfile.write(f"{text}\r\n".encode("latin-1") + body)
            if reply.length is not None:
                return


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 100

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients close connections after malformed answers."""


class World:
    """The right answers, and the answers in their place."""

    def __init__(self) -> None:
        self.rng, self.rate, self.faults, self.requests = random.Random(0), 0.0, [], 0
        self.right: dict[str, Reply] = {}
        self.url = ""

    def begin(self, number: int) -> None:
        self.rng, self.rate = random.Random(number), (0.3, 0.7, 1.0)[number % 3]
        self.faults, self.requests = [], 0

    def reply(self, method: str, target: str) -> Reply:
        self.requests += 1
        right = self.right.get(target.partition("?")[0], Reply(404))
        if self.requests > 30:
            return Reply(closed=True)  # endless pages
        if right.status == 404:  # behind a redirect
            self.faults.append((method, target, right))
            return right
        if self.rng.random() >= self.rate:
            return right
        reply = damaged(self.rng, right)
        self.faults.append((method, target, reply))
        return reply


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.world = World()
        server.world.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server.world
        server.shutdown()


def outcome(number: int, call: Callable[[], Any]) -> tuple[PipelineError | None, Any]:
    """The error of a call or its result. Any other exception fails the test."""
    try:
        return None, call()
    except PipelineError as error:
        return error, None
    except Exception as error:
        raise AssertionError(f"input {number}") from error


def check_error(error: PipelineError, address: str, number: int) -> None:
    assert address in error.where, f"input {number}: no address: {error}"
    assert error.fix, f"input {number}: no fix: {error}"
    assert error.got or error.expected or isinstance(error, SourceNotFound), (
        f"input {number}: neither expected nor got: {error}"
    )
    assert SECRET not in "".join(traceback.format_exception(error)), f"input {number}: {error}"


def test_answers_of_airflow(world: World) -> None:
    dags = [
        {"dag_id": "churn", "bundle_name": "ml", "bundle_version": "1-a", "last_parsed_time": "2026-11-26T10:00:00Z"},
        {"dag_id": "other", "bundle_name": "x", "bundle_version": None, "last_parsed_time": None},
    ]
    faults = [
        {"filename": "a.py", "timestamp": "2026-11-26T10:00:00Z", "stack_trace": "ValueError", "bundle_name": "ml"}
    ]
    world.right = {
        "/auth/token": Reply(201, b'{"access_token": "token"}'),
        "/api/v2/dags": Reply(200, json.dumps({"dags": dags, "total_entries": 2}).encode()),
        "/api/v2/importErrors": Reply(200, json.dumps({"import_errors": faults, "total_entries": 1}).encode()),
    }
    failed = 0
    for number in inputs(500):
        world.begin(number)
        if number % 4 == 0:
            rng = random.Random(-number)
            rows = [{**dags[0], rng.choice([*dags[0], "x"]): rng.choice(SCALARS)}, rng.choice(SCALARS)]
            page = {"dags": rng.choice((rows, rows[:1], *SCALARS)), "total_entries": rng.choice((1, 2, *SCALARS))}
            world.right["/api/v2/dags"] = Reply(200, json.dumps(page).encode())
        with requests.Session() as session:
            api = AirflowApi(world.url, "robot", SECRET, session)
            error, _ = outcome(number, lambda api=api: api.bundle_state("ml"))
        if error:
            failed += 1
            check_error(error, "http://127.0.0.1:", number)
    assert failed > len(inputs(500)) / 3


def test_answers_of_slack_to_the_summary_of_a_release(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.right = {"/services/x": Reply(200, b"ok")}
    sent = 0
    for number in inputs(500):
        world.begin(number)
        caplog.clear()
        try:
            accepted = post_to_slack(f"{world.url}/services/x", "text")
        except Exception as error:
            raise AssertionError(f"input {number}") from error
        assert not accepted or not world.faults or world.faults[-1][2].body.strip() in (b"ok", b"OK"), f"input {number}"
        assert accepted or caplog.messages, f"input {number}"
        assert "/services" not in caplog.text, f"input {number}"
        sent += accepted
    assert 0 < sent < len(inputs(500))


# slack_sdk leaves the socket of a malformed answer to the garbage collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.usefixtures("garbage_collected")
@pytest.mark.parametrize("connection", ["slack_bot", "slack_hook"])
def test_answers_of_slack(world: World, monkeypatch: pytest.MonkeyPatch, connection: str) -> None:
    bot = {"conn_type": "slack", "password": SECRET, "extra": {"base_url": f"{world.url}/api/"}}
    hook = {"conn_type": "slackwebhook", "host": f"{world.url}/services", "password": SECRET}
    monkeypatch.setenv("AIRFLOW_CONN_SLACK_BOT", json.dumps(bot))
    monkeypatch.setenv("AIRFLOW_CONN_SLACK_HOOK", json.dumps(hook))
    message = {"ok": True, "channel": "CML", "ts": "1.2", "message": {"text": "hello"}}
    world.right = {
        "/api/chat.postMessage": Reply(200, json.dumps(message).encode(), {"Content-Type": "application/json"}),
        f"/services/{SECRET}": Reply(200, b"ok"),
    }
    destination, sent = Destination(connection, "#ml"), 0
    client = connect(destination)
    assert isinstance(client, SlackClient)
    body = {"channel": "#ml", "text": "hello", "blocks": []}
    for number in inputs(500):
        world.begin(number)
        # Too short for another attempt.
        result = client.call("chat.postMessage", body, RetryPolicy(rate_limited=0.0, unanswered=0.6))
        assert result.ok or error_text(result, destination), f"input {number}"
        assert SECRET not in error_text(result, destination), f"input {number}: {error_text(result, destination)}"
        if result.ok:
            sent += 1
            reply = world.faults[-1][2] if world.faults else None
            right = reply is None or (b'"ok": true' in reply.body if client.can_edit else reply.body.strip() == b"ok")
            assert right, f"input {number}: {reply}"
            if client.can_edit:
                assert isinstance(result.data.get("ts"), str), f"input {number}: {result}"
                assert isinstance(result.data.get("channel"), str), f"input {number}: {result}"
    assert 0 < sent < len(inputs(500))


def test_answers_of_a_web_server_with_a_source(world: World, tmp_path: Path) -> None:
    csv = b"id,amount,label\n" + b"".join(b"%d,%d,%d\n" % (n, n * 3, n % 2) for n in range(40))
    failed = 0
    for number in inputs(500):
        world.begin(number)
        headers = random.Random(-number).choice(({"ETag": '"a"'}, {"ETag": 'W/"a"'}, {}))
        world.right = {"/a.csv": Reply(200, csv, headers)}
        address = world.url.replace("//", f"//user:{SECRET}@")
        source, folder = FileDataSource(FileSource(path=f"{address}/a.csv"), {}), tmp_path / str(number)
        folder.mkdir()
        error, path = outcome(number, lambda source=source, folder=folder: source.fetch(source.pin(), str(folder)))
        if error is None:
            assert world.faults or Path(path).read_bytes() == csv, f"input {number}"
            continue
        failed += 1
        assert world.faults, f"input {number}: {error}"
        missing = any(reply.status in (404, 410) for _, _, reply in world.faults)
        assert missing or not isinstance(error, SourceNotFound), f"input {number}: {error} {world.faults}"
        check_error(error, "http://127.0.0.1:", number)
    assert failed > len(inputs(500)) / 4
