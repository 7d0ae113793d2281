from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from ml_pipelines.errors import RequestError, ServiceUnavailable
from ml_pipelines_airflow.execution.docker_client import DockerEngine
from ml_pipelines_airflow.local.processes import find_free_port


class Answers(BaseHTTPRequestHandler):
    """An engine's API that is there, and answers everything else with one code."""

    code: ClassVar[int] = 500

    def do_GET(self) -> None:
        if self.path.endswith("/_ping"):
            self.answer(200, "OK")
        elif self.path.endswith("/version"):
            self.answer(200, {"ApiVersion": "1.44", "MinAPIVersion": "1.24"})
        else:
            self.answer(self.code, {"message": "it is so"})

    def do_POST(self) -> None:
        self.answer(self.code, {"message": "it is so"})

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
        monkeypatch.setattr("ml_pipelines_airflow.execution.docker_client._registry", lambda: None)
        made = DockerEngine()
        yield made
        made._client.close()
        server.shutdown()


def test_an_engine_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"tcp://127.0.0.1:{find_free_port()}"
    monkeypatch.setenv("DOCKER_HOST", address)
    monkeypatch.setattr("ml_pipelines_airflow.execution.docker_client._registry", lambda: None)
    with pytest.raises(ServiceUnavailable) as error:
        DockerEngine()
    assert (error.value.what, error.value.where) == ("the Docker engine does not answer", address)
    assert error.value.fix == "see that it runs and that the worker may use it; DOCKER_HOST says where it is"


def test_a_fault_of_the_engine_is_worth_another_try(engine: DockerEngine) -> None:
    for call in (lambda: engine.find("a"), lambda: engine.start("a"), lambda: engine.remove("a")):
        with pytest.raises(ServiceUnavailable, match="the Docker engine has a fault") as error:
            call()
        assert (error.value.where, error.value.got) == (engine.where, "it is so")
        assert error.value.fix == "see the engine's own log"


def test_what_the_engine_refuses_is_not(engine: DockerEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    # As a proxy of its socket does.
    monkeypatch.setattr(Answers, "code", 403)
    with pytest.raises(RequestError, match="the Docker engine does not take the container") as error:
        engine.create("a", image="i", limits={})
    assert error.value.got == "it is so"
    assert "docker_network and docker_volumes" in error.value.fix


def test_a_container_that_is_gone_is_none(engine: DockerEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Answers, "code", 404)
    assert engine.find("a") is None
    engine.remove("a")


def test_somebody_else_may_have_made_it(engine: DockerEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Answers, "code", 409)
    assert not engine.create("a", image="i", limits={})
    engine.remove("a")


def test_a_connection_that_is_not_complete_is_told(engine: DockerEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ml_pipelines_airflow.execution.docker_client._registry", lambda: "docker_default")
    monkeypatch.setenv("AIRFLOW_CONN_DOCKER_DEFAULT", '{"conn_type": "docker", "host": "registry.example.com"}')
    with pytest.raises(RequestError, match="the connection to the registry is not complete") as error:
        DockerEngine()
    assert error.value.where == "connection 'docker_default'"
