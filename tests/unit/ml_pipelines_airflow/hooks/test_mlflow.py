from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from ml_pipelines.errors import PipelineError
from ml_pipelines_airflow.hooks.mlflow import MLflowHook

Answer = tuple[int, str, bytes]


@contextlib.contextmanager
def answering(models: Answer, version: Answer = (200, "text/plain", b"3.17.2")) -> Iterator[tuple[str, list[str]]]:
    """The address of a server that gives these answers, and the credentials that it was given."""
    inputs: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            inputs.append(self.headers.get("Authorization", ""))
            status, kind, content = version if self.path == "/version" else models
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", inputs
        server.shutdown()
        thread.join()


JSON = "application/json"


@pytest.mark.parametrize(
    ("models", "good", "output"),
    [
        ((200, JSON, b"{}"), True, "MLflow 3.17.2 with 0 registered models"),
        ((200, JSON, b'{"registered_models": [{}]}'), True, "MLflow 3.17.2 with 1 registered model"),
        (
            (200, JSON, b'{"registered_models": [{}, {}], "next_page_token": "x"}'),
            True,
            "MLflow 3.17.2 with 2 or more registered models",
        ),
        ((401, "text/plain", b"no"), False, "{} rejects the credentials"),
        ((403, "text/plain", b"Invalid Host\nheader"), False, "{} denies access: Invalid Host header"),
        ((404, "text/html; charset=utf-8", b"<p>"), False, "{} is not MLflow: it answered 404 with text/html"),
        ((200, "text/html", b"<p>sign in"), False, "{} is not MLflow: it answered 200 with text/html"),
        ((200, JSON, b"[]"), False, "{} is not MLflow: it answered 200 with application/json"),
        ((200, JSON, b'{"registered_models": 5}'), False, "{} is not MLflow: it answered 200 with application/json"),
        ((200, JSON, b"[" * 90_000), False, "{} is not MLflow: it answered 200 with application/json"),
        ((503, "text/plain", b""), False, "{} returned a server error: 503 Service Unavailable"),
    ],
)
def test_what_a_server_answers(define: Callable, models: Answer, good: bool, output: str) -> None:
    with answering(models) as (url, _):
        define("mlflow_default", host=url)
        assert MLflowHook().test_connection() == (good, output.format(url))


def test_a_server_that_does_not_tell_its_version(define: Callable) -> None:
    with answering((200, JSON, b"{}"), (404, "text/html", b"?")) as (url, _):
        define("mlflow_default", host=url)
        assert MLflowHook().test_connection() == (True, "MLflow with 0 registered models")


@pytest.mark.parametrize(
    ("fields", "header"),
    [
        ({"login": "me", "password": "s3cret"}, "Basic bWU6czNjcmV0"),
        ({"extra": {"token": "t0ken"}}, "Bearer t0ken"),
        ({"login": "me", "password": "s3cret", "extra": {"token": "t0ken"}}, "Basic bWU6czNjcmV0"),
        ({}, ""),
    ],
)
def test_credentials_are_sent(define: Callable, fields: dict, header: str) -> None:
    with answering((200, JSON, b"{}")) as (url, inputs):
        define("mlflow_default", host=url, **fields)
        assert MLflowHook().test_connection()[0]
    assert set(inputs) == {header}


def test_nobody_there(define: Callable) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        define("mlflow_default", host=url)
        output = f"{url} refuses the connection: check that MLflow runs and is reachable from this machine"
        assert MLflowHook().test_connection() == (False, output)


def test_a_server_that_says_nothing_is_given_up(define: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ml_pipelines_airflow.hooks.mlflow.TIMEOUTS", (1, 1))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        define("mlflow_default", host=url)
        assert MLflowHook().test_connection() == (False, f"{url} does not answer within 1 s")


@pytest.mark.parametrize("host", ["http://[", "http://me:s3/cret@mlflow"])
def test_an_address_that_is_none(define: Callable, host: str) -> None:
    define("mlflow_default", host=host)
    passed, message = MLflowHook().test_connection()
    assert not passed
    assert message.startswith("the host of the connection is not an address")
    with pytest.raises(PipelineError, match="the host of the connection is not an address") as caught:
        _ = MLflowHook().tracking_uri
    assert caught.value.where == "connection 'mlflow_default'"
    assert caught.value.__suppress_context__


def test_a_connection_without_a_host(define: Callable) -> None:
    define("mlflow_default", login="me")
    good, output = MLflowHook().test_connection()
    assert (good, output.partition(" - ")[0]) == (False, "the connection has no host")
    with pytest.raises(PipelineError, match="the connection has no host") as caught:
        _ = MLflowHook().tracking_uri
    assert caught.value.where == "connection 'mlflow_default'"


def test_a_database_in_a_file(define: Callable, tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    uri = f"sqlite:///{file}"
    define("mlflow_default", host=uri)
    output = f"the file {file} does not exist on this machine; the first run creates it, or: mlflow db upgrade {uri}"
    assert MLflowHook().test_connection() == (False, output)
    assert not file.exists()
    file.touch()
    output = f"{file} is not a current MLflow database; to migrate it: mlflow db upgrade {uri}"
    assert MLflowHook().test_connection() == (False, output)
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.executescript(
            "create table alembic_version (version_num); insert into alembic_version values ('abc');"
            "create table registered_models (name); insert into registered_models values ('m');"
        )
    assert MLflowHook().test_connection() == (True, "MLflow's database at revision abc with 1 registered model")
    file.write_text("something else, and more than a few bytes of it" * 100)
    assert MLflowHook().test_connection() == (False, f"{file} is not a SQLite database: file is not a database")


@pytest.mark.parametrize(
    ("fields", "ui_url"),
    [
        ({"host": "http://mlflow:5000/"}, "http://mlflow:5000"),
        ({"host": "http://me:s3cret@mlflow:5000"}, "http://mlflow:5000"),
        ({"host": "http://mlflow:5000", "extra": {"ui_url": "https://m.example.com/"}}, "https://m.example.com"),
        ({"host": "sqlite:////data/mlflow.db"}, None),
        ({"host": "sqlite:////data/mlflow.db", "extra": {"ui_url": "http://localhost:5000"}}, "http://localhost:5000"),
    ],
)
def test_where_browsers_go(define: Callable, fields: dict, ui_url: str | None) -> None:
    define("mlflow_default", **fields)
    assert MLflowHook().ui_url == ui_url


@pytest.mark.parametrize(
    ("verify", "expected"),
    [
        (None, {}),
        ("", {}),
        (True, {}),
        (False, {"MLFLOW_TRACKING_INSECURE_TLS": "true"}),
        ("False", {"MLFLOW_TRACKING_INSECURE_TLS": "true"}),
        ("/etc/ca.pem", {"MLFLOW_TRACKING_SERVER_CERT_PATH": "/etc/ca.pem"}),
    ],
)
def test_whom_to_trust(define: Callable, verify: object, expected: dict[str, str]) -> None:
    define("mlflow_default", host="https://mlflow", extra={"verify": verify})
    assert MLflowHook().variables == expected


def test_the_password_is_that_of_the_fields_before_that_of_the_address(define: Callable) -> None:
    define("mlflow_default", host="http://you:0ther%2F@mlflow")
    assert MLflowHook().variables == {"MLFLOW_TRACKING_USERNAME": "you", "MLFLOW_TRACKING_PASSWORD": "0ther/"}
    define("mlflow_default", host="http://you:0ther@mlflow", login="me", password="s3cret")
    assert MLflowHook().variables == {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "s3cret"}


def test_importing_and_testing_brings_no_mlflow() -> None:
    program = (
        "import sys\n"
        "import ml_pipelines_airflow.hooks.dvc\n"
        "from ml_pipelines_airflow.hooks.mlflow import MLflowHook\n"
        "assert not MLflowHook().test_connection()[0]\n"
        "print(sorted({'mlflow', 'dvc', 'pandas', 'numpy', 'sklearn', 'wtforms', 'flask'} & set(sys.modules)))"
    )
    environment = {**os.environ, "AIRFLOW_CONN_MLFLOW_DEFAULT": '{"conn_type": "mlflow", "host": "127.0.0.1:9"}'}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
