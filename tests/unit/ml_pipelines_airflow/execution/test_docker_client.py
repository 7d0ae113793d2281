from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from ml_pipelines.errors import RequestError, ServiceUnavailable
from ml_pipelines_airflow.execution.docker_client import DockerEngine
from ml_pipelines_airflow.local.process_groups import find_free_port


class Answers(BaseHTTPRequestHandler):
    """An engine's API that answers all requests but two with one status code."""

    code: ClassVar[int] = 500

    def do_GET(self) -> None:
        if self.path.endswith("/_ping"):
            self.answer(200, "OK")
        elif self.path.endswith("/version"):
            self.answer(200, {"ApiVersion": "1.44", "MinAPIVersion": "1.24"})
        else:
            self.answer(self.code, {"message": "the message"})

    def do_POST(self) -> None:
        self.answer(self.code, {"message": "the message"})

    def do_DELETE(self) -> None:
        self.do_POST()

    def answer(self, code: int, body: dict[str, str] | str) -> None:
        content = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[DockerEngine]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.server_port}")
        monkeypatch.setattr("ml_pipelines_airflow.execution.docker_client.registry_connection", lambda: None)
        engine = DockerEngine()
        yield engine
        engine.close()
        server.shutdown()


def test_unavailable_engine_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"tcp://127.0.0.1:{find_free_port()}"
    monkeypatch.setenv("DOCKER_HOST", address)
    monkeypatch.setattr("ml_pipelines_airflow.execution.docker_client.registry_connection", lambda: None)
    with pytest.raises(ServiceUnavailable) as error:
        DockerEngine()
    assert (error.value.what, error.value.where) == ("the Docker engine does not answer", address)


def test_internal_error_of_the_engine_is_transient(engine: DockerEngine) -> None:
    for call in (lambda: engine.find("a"), lambda: engine.start("a"), lambda: engine.remove("a")):
        with pytest.raises(ServiceUnavailable, match="internal error") as error:
            call()
        assert (error.value.where, error.value.got) == (engine.address, "the message")


def test_rejected_request_is_permanent(engine: DockerEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    # A proxy of the socket can answer so.
    monkeypatch.setattr(Answers, "code", 403)
    with pytest.raises(RequestError, match="the Docker engine rejects the container") as error:
        engine.create("a", image="i", limits={})
    assert error.value.got == "the message"
    assert "docker_network and docker_volumes" in error.value.fix


def test_missing_container_is_none(engine: DockerEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Answers, "code", 404)
    assert engine.find("a") is None
    engine.remove("a")


def test_create_returns_false_for_an_existing_container(engine: DockerEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Answers, "code", 409)
    assert not engine.create("a", image="i", limits={})
    engine.remove("a")


def test_incomplete_registry_connection_raises(engine: DockerEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ml_pipelines_airflow.execution.docker_client.registry_connection", lambda: "docker_default")
    monkeypatch.setenv("AIRFLOW_CONN_DOCKER_DEFAULT", '{"conn_type": "docker", "host": "registry.example.com"}')
    with pytest.raises(RequestError, match="the connection to the image registry is incomplete") as error:
        DockerEngine()
    assert error.value.where == "connection 'docker_default'"
