"""What is read without MLflow is what MLflow itself says, in a database and on a server."""

from __future__ import annotations

import base64
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.integration.processes import find_free_port

from ml_pipelines.adapters.mlflow.alias_lookup import LookupUnsupported, lookup_alias
from ml_pipelines.adapters.mlflow.registry import MlflowRegistry
from ml_pipelines.ports import ModelVersion

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"),
]

MODEL = "churn model"


@pytest.fixture(scope="module", params=["database", "server"])
def uri(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    start_mlflow: Callable[..., AbstractContextManager[str]],
) -> Iterator[str]:
    """An MLflow with three versions of a model: the second serves under two names, the third is deleted."""
    folder = tmp_path_factory.mktemp("mlflow")
    if request.param == "database":
        created = f"sqlite:///{folder}/mlflow.db"
        fill(created)
        yield created
    else:
        with start_mlflow(folder, find_free_port()) as created:
            fill(created)
            yield created


def fill(uri: str) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(uri, uri)
    client.create_registered_model(MODEL)
    for number in ("1", "2", "3"):
        client.create_model_version(MODEL, "s3://nowhere/model", tags={"of": number, "a key: of no/one": "ü"})
    for alias, version in {"previous": "1", "champion": "2", "best": "2", "gone": "3"}.items():
        client.set_registered_model_alias(MODEL, alias, version)
    client.delete_model_version(MODEL, "3")


def by_mlflow(registry: MlflowRegistry, alias: str, monkeypatch: pytest.MonkeyPatch) -> ModelVersion | None:
    with monkeypatch.context() as patch:

        def unable(*_: str) -> None:
            raise LookupUnsupported

        patch.setattr("ml_pipelines.adapters.mlflow.registry.lookup_alias", unable)
        return registry.by_alias(MODEL, alias)


@pytest.mark.parametrize("alias", ["champion", "previous", "best", "gone", "nobody"])
def test_it_is_what_mlflow_says(uri: str, alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = MlflowRegistry(uri)
    expected = by_mlflow(registry, alias, monkeypatch)
    seen = lookup_alias(uri, MODEL, alias)
    assert (seen is None) is (expected is None) is (alias in ("gone", "nobody"))
    actual = registry.by_alias(MODEL, alias)
    if expected is None:
        assert actual is None
        return
    assert actual is not None
    assert sorted(actual.aliases) == sorted(expected.aliases)
    assert [(item.version, item.tags, item.url) for item in (actual, expected)] == [
        (expected.version, {"of": expected.version, "a key: of no/one": "ü"}, expected.url)
    ] * 2


def test_a_model_that_nobody_has_registered(uri: str) -> None:
    assert lookup_alias(uri, "nothing", "champion") is None


def test_what_is_not_plainly_answered_is_left_to_mlflow(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database at all, whatever its name may promise")
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection, connection:
        connection.execute("CREATE TABLE something (else_ TEXT)")
    for place in (
        f"sqlite:///{tmp_path}/text.db",
        f"sqlite:///{tmp_path}/other.db",
        f"sqlite:///{tmp_path}/missing.db",
        f"http://127.0.0.1:{find_free_port()}",
        "postgresql://nobody@127.0.0.1/mlflow",
    ):
        with pytest.raises(LookupUnsupported):
            lookup_alias(place, MODEL, "champion")
    assert not (tmp_path / "missing.db").exists()


@pytest.fixture
def gate() -> Iterator[tuple[str, list[str | None]]]:
    """A server that answers whoever signs in; its address, and what it was shown."""
    shown: list[str | None] = []

    class Gate(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shown.append(self.headers["Authorization"])
            answer: dict[str, Any] = (
                {"registered_model": {"name": MODEL}} if shown[-1] else {"error_code": "UNAUTHENTICATED"}
            )
            body = json.dumps(answer).encode()
            self.send_response(200 if shown[-1] else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Gate) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", shown
        server.shutdown()


BASIC = f"Basic {base64.b64encode(b'me:secret').decode()}"


@pytest.mark.parametrize(
    ("variables", "header"),
    [
        ({"USERNAME": "me", "PASSWORD": "secret"}, BASIC),
        ({"USERNAME": "me", "PASSWORD": "secret", "TOKEN": "t"}, BASIC),
        ({"TOKEN": "t"}, "Bearer t"),
        ({}, None),
    ],
)
def test_it_signs_in_as_mlflow_does(
    gate: tuple[str, list[str | None]],
    variables: dict[str, str],
    header: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("USERNAME", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value)
    address, shown = gate
    if header is None:
        with pytest.raises(LookupUnsupported):
            lookup_alias(address, MODEL, "champion")
    else:
        assert lookup_alias(address, MODEL, "champion") is None
    assert shown == [header]


def test_other_ways_to_sign_in_are_left_to_mlflow(
    gate: tuple[str, list[str | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_AUTH", "kerberos")
    with pytest.raises(LookupUnsupported):
        lookup_alias(gate[0], MODEL, "champion")
    assert gate[1] == []
