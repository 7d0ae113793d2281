"""What the native stack is told. It runs in tests/integration/airflow/celery."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest

from ml_pipelines_airflow.local import stack
from ml_pipelines_airflow.local.demo import Workspace


def test_keys_are_made_once_and_for_their_owner(tmp_path: Path) -> None:
    created = stack._keys(tmp_path / "secrets.json")
    assert stack._keys(tmp_path / "secrets.json") == created
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert len(set(created.values())) == len(created) == 6
    assert min(map(len, created.values())) >= 32


def test_celery_loses_no_task_and_gives_none_twice(tmp_path: Path) -> None:
    keys = stack._keys(tmp_path / "secrets.json")
    actual = stack._settings(tmp_path, keys, database="postgresql://d", broker="redis://b", port=8080)
    assert actual["AIRFLOW__CELERY__TASK_ACKS_LATE"] == "True"
    assert actual["AIRFLOW__CELERY__WORKER_PREFETCH_MULTIPLIER"] == "1"
    assert int(actual["AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT"]) == 24 * 3600
    again = stack._settings(tmp_path, keys, database="postgresql://d", broker="redis://b", port=8080)
    assert again["MLFLOW_TRACKING_URI"] == actual["MLFLOW_TRACKING_URI"]
    passwords = Path(actual["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
    assert json.loads(passwords.read_text()) == {"admin": keys["admin"]}
    assert passwords.stat().st_mode & 0o777 == 0o600


def test_of_the_demo_it_takes_data_and_dags_and_no_server(tmp_path: Path) -> None:
    taken = {name for name in Workspace(tmp_path, tmp_path).environment() if stack._is_of_workspace(name)}
    assert taken >= {"AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", "AIRFLOW__ML_PIPELINES__STORE", "PATH"}
    assert taken >= {"ML_PIPELINES_DATA_REPO", "ML_PIPELINES_SAMPLE_DATA", "ML_PIPELINES_STORE"}
    assert not taken & {"AIRFLOW_HOME", "AIRFLOW__API__PORT", "MLFLOW_TRACKING_URI"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_in_order_when_it_is_told_to(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {item: signal.getsignal(item) for item in (signal.SIGINT, signal.SIGTERM)}
    # As of a process in the background, which is not to hear Ctrl-C.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    monkeypatch.setattr(sys, "argv", ["stack-native"])
    monkeypatch.setattr(stack, "_serve", lambda *_: signal.raise_signal(number))
    try:
        stack.main()
    finally:
        for item, handler in before.items():
            signal.signal(item, handler)
    assert capsys.readouterr().out == "stopped\n"
