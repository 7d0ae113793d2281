from __future__ import annotations

import configparser
import json
import stat
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def health(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("health")


def test_component_health_is_that_of_the_api(health: ModuleType) -> None:
    said = {"scheduler": {"status": "healthy"}, "triggerer": {"status": "unhealthy"}, "dag_processor": {"status": None}}
    assert health.component_is_healthy(said, "scheduler")
    assert not any(health.component_is_healthy(said, name) for name in ("triggerer", "dag_processor", "other"))


def test_unknown_check_fails(health: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert health.main(["wrong"]) == 2
    assert "Usage: health.py" in capsys.readouterr().err


def test_unreachable_server_is_reported_in_one_line(
    health: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "MONITOR", "http://127.0.0.1:9/")  # the port that discards; nobody has it
    assert health.main(["component", "scheduler"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_mlflow_settings_are_private_and_allow_reads(script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    file = tmp_path / "auth.ini"
    uri = "postgresql+psycopg2://mlflow:a%b@postgres/mlflow"
    for _ in range(2):  # a container that starts again
        script("mlflow_server").write_auth_settings(file, {"MLFLOW_BACKEND_STORE_URI": uri})
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(file)
    assert settings["mlflow"]["database_uri"] == uri
    assert settings["mlflow"]["default_permission"] == "READ"


def test_write_password_file_replaces_the_password(script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    file = tmp_path / "passwords.json"
    for password in ("first", "second"):
        script("prepare").write_password_file(file, {"AIRFLOW_ADMIN_USER": "admin", "AIRFLOW_ADMIN_PASSWORD": password})
    assert json.loads(file.read_text()) == {"admin": "second"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
