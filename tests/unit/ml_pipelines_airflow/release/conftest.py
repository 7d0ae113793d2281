"""An Airflow that answers as these tests say: a server for its API, and one that is asked without any."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from ml_pipelines.errors import PipelineError
from ml_pipelines_airflow.release.airflow_client import BundleState, DagImportError, DagState


@dataclass
class Server:
    """As much of Airflow's API as is asked for.

    Attributes:
        dags, errors: rows of the lists.
        passwords: who is let in.
        tokens: that are taken; whoever logs in gets a new one.
        status: of every answer, while it is given.
        asked: paths, in order.
    """

    dags: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    passwords: dict[str, str] = field(default_factory=lambda: {"robot": "secret"})
    tokens: list[str] = field(default_factory=list)
    status: int | None = None
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, method: str, path: str, token: str, body: dict[str, Any]) -> tuple[int, Any]:
        split = urlsplit(path)
        self.asked.append(f"{method} {split.path}")
        if self.status:
            return self.status, {"detail": "so it is"}
        if split.path == "/auth/token":
            if self.passwords.get(body["username"]) != body["password"]:
                return 401, {"detail": "Invalid credentials"}
            self.tokens.append(f"token-{len(self.asked)}")
            return 201, {"access_token": self.tokens[-1]}
        if token not in self.tokens:
            return 401, {"detail": "Invalid token"}
        name = split.path.removeprefix("/api/v2/")
        key, rows = {"dags": ("dags", self.dags), "importErrors": ("import_errors", self.errors)}[name]
        query = {name: values[0] for name, values in parse_qs(split.query).items()}
        start, limit = int(query["offset"]), int(query["limit"])
        return 200, {key: rows[start : start + limit], "total_entries": len(rows)}


@pytest.fixture
def server() -> Iterator[Server]:
    airflow = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else {}
            status, content = airflow.answer(self.command, self.path, token, body)
            data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    airflow.url = f"http://127.0.0.1:{http.server_port}"
    threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield airflow
    http.shutdown()
    http.server_close()


def bundle_state(
    *dags: tuple[str, str | None, str | None], faults: tuple[tuple[str, str, str], ...] = ()
) -> BundleState:
    """DAGs as name, version and time of parsing; import errors as file, time and text."""
    return BundleState({dag[0]: DagState(*dag) for dag in dags}, {fault[0]: DagImportError(*fault) for fault in faults})


@dataclass
class Scripted:
    """An Airflow that says one thing after the other, and the last for ever."""

    script: list[BundleState | PipelineError | Callable[[], BundleState]]
    asked: int = 0

    def bundle_state(self, bundle: str) -> BundleState:
        assert bundle == "ml"
        now = self.script[min(self.asked, len(self.script) - 1)]
        self.asked += 1
        if isinstance(now, PipelineError):
            raise now
        return now if isinstance(now, BundleState) else now()


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ml_pipelines_airflow.release.verify.POLL_SECONDS", 0.0)
