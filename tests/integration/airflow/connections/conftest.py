"""Servers with authentication: one in front of MLflow, one with a git repository and its DVC remote."""

from __future__ import annotations

import base64
import contextlib
import gzip
import http.client
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.integration.processes import find_free_port, mlflow_server

Answer = Callable[[Any, bytes], tuple[int, dict[str, str], bytes]]


class Handler(BaseHTTPRequestHandler):
    """Checks the credentials; the `answer` of the server returns status, headers and body."""

    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self._chunks() if self.headers.get("Transfer-Encoding") == "chunked" else self.rfile.read(length)
        authorization = self.headers.get("Authorization")
        self.server.seen.append((self.command, self.path, authorization))
        if authorization not in self.server.accepted:
            status, headers, content = 401, {"WWW-Authenticate": 'Basic realm="tests"'}, b"unauthorized"
        else:
            status, headers, content = self.server.answer(self, body)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = handle_any  # noqa: N815 - names of http.server

    def _chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@dataclass
class AuthenticatedServer:
    """A running server, its credentials, and its requests."""

    port: int
    user: str
    password: str
    token: str
    seen: list[tuple[str, str, str | None]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def accepted(self) -> set[str]:
        basic = [(self.user, self.password), ("token", self.token)]
        encoded = [base64.b64encode(f"{user}:{secret}".encode()).decode() for user, secret in basic]
        return {f"Bearer {self.token}", *(f"Basic {value}" for value in encoded)}


@contextlib.contextmanager
def authenticated_server(
    answer: Callable[[Any, bytes], tuple[int, dict[str, str], bytes]],
) -> Iterator[AuthenticatedServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    authenticated = AuthenticatedServer(
        server.server_port, user="m e", password="s3cret/@:word", token="gh-s3cret/+token"
    )
    server.accepted, server.answer, server.seen = authenticated.accepted, answer, authenticated.seen
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield authenticated
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="session")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `mlflow server`."""
    with mlflow_server(tmp_path_factory.mktemp("mlflow-server"), find_free_port()) as url:
        yield url


@pytest.fixture(scope="session")
def mlflow_proxy(mlflow_url: str) -> Iterator[AuthenticatedServer]:
    """MLflow behind a proxy with authentication."""

    def forward(request: Handler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(mlflow_url.removeprefix("http://"), timeout=60)
        headers = {name: request.headers[name] for name in ("Content-Type",) if name in request.headers}
        connection.request(request.command, request.path, body or None, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, {"Content-Type": answer.headers.get("Content-Type", "text/plain")}, content

    with authenticated_server(forward) as server:
        yield server


@pytest.fixture
def git_host(tmp_path: Path) -> Iterator[AuthenticatedServer]:
    """`/git/NAME` is the git repository `tmp_path/NAME`, `/remote/...` the files of a DVC remote beside it."""

    def answer(request: Handler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        path, _, query = request.path.partition("?")
        if path.startswith("/git/"):
            return _git_backend(request, body, path.removeprefix("/git"), query)
        file = tmp_path / "data-remote" / path.removeprefix("/remote/")
        if not file.is_file():
            return 404, {}, b"no such file"
        return 200, {}, file.read_bytes()

    def _git_backend(request: Handler, body: bytes, path: str, query: str) -> tuple[int, dict[str, str], bytes]:
        compressed = request.headers.get("Content-Encoding") == "gzip"
        environment = {
            "GIT_PROJECT_ROOT": str(tmp_path),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "PATH": os.environ["PATH"],
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": request.command,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
        }
        data = gzip.decompress(body) if compressed else body
        process = subprocess.run(["git", "http-backend"], input=data, env=environment, capture_output=True, check=False)
        head, _, content = process.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        return int(headers.pop("Status", "200").split()[0]), headers, content

    with authenticated_server(answer) as server:
        yield server
