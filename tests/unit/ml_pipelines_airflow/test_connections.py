from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from ml_pipelines.errors import PipelineError, RequestError, SourceError
from ml_pipelines_airflow.connections import airflow_settings

SECRET = "s3cret"


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (
        "AIRFLOW__ML_PIPELINES__STORE",
        "AIRFLOW__ML_PIPELINES__MLFLOW_CONN_ID",
        "MLFLOW_TRACKING_URI",
        "ML_PIPELINES_LEDGER",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    # Connections of these tests are variables of the environment; no database is asked.
    monkeypatch.setattr("airflow.sdk.BaseHook.get_connection", staticmethod(_from_environment))


def _from_environment(name: str):
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    text = os.environ.get(f"AIRFLOW_CONN_{name.upper()}")
    if text is None:
        raise AirflowNotFoundException(f"The conn_id `{name}` isn't defined")
    return Connection(conn_id=name, **json.loads(text))


def test_without_any_setting_everything_is_in_airflow_home(tmp_path: Path) -> None:
    settings = airflow_settings()
    assert settings.store == f"file://{tmp_path}/ml_pipelines/store"
    assert settings.tracking_uri == f"sqlite:///{tmp_path}/ml_pipelines/mlflow.db"
    assert settings.ledger == f"sqlite:///{tmp_path}/ml_pipelines/ledger.db"


def test_the_ledger_is_that_of_its_connection_else_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ML_PIPELINES_LEDGER", "sqlite:////data/ledger.db")
    assert airflow_settings().ledger == "sqlite:////data/ledger.db"
    connection = {"conn_type": "postgres", "host": "db", "login": "me", "password": SECRET, "schema": "ml"}
    monkeypatch.setenv("AIRFLOW_CONN_ML_PIPELINES_LEDGER", json.dumps(connection))
    assert re.fullmatch(rf"postgresql(\+\w+)?://me:{SECRET}@db/ml", airflow_settings().ledger)
    monkeypatch.setenv("AIRFLOW__ML_PIPELINES__LEDGER_CONN_ID", "other")
    assert airflow_settings().ledger == "sqlite:////data/ledger.db"


def test_the_store_is_the_configured_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__ML_PIPELINES__STORE", "s3://bucket/store")
    assert airflow_settings().store == "s3://bucket/store"


def test_settings_have_the_configured_cells_per_group(monkeypatch: pytest.MonkeyPatch) -> None:
    assert airflow_settings().cells_per_group == 800_000
    monkeypatch.setenv("AIRFLOW__ML_PIPELINES__CELLS_PER_GROUP", "5000")
    assert airflow_settings().cells_per_group == 5000
    monkeypatch.setenv("AIRFLOW__ML_PIPELINES__CELLS_PER_GROUP", "none")
    with pytest.raises(RequestError, match="this is not a number of cells") as caught:
        airflow_settings()
    assert caught.value.where == "[ml_pipelines] cells_per_group"


def test_mlflow_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert airflow_settings().tracking_uri == "http://mlflow:5000"


def test_mlflow_connection_takes_precedence_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", json.dumps({"conn_type": "generic", "host": "http://other:1"}))
    assert airflow_settings().tracking_uri == "http://other:1"
    monkeypatch.setenv("AIRFLOW__ML_PIPELINES__MLFLOW_CONN_ID", "mlflow_of_team")
    assert airflow_settings().tracking_uri == "http://mlflow:5000"


def test_missing_connection_of_an_operator_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.exceptions import AirflowNotFoundException

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    monkeypatch.setenv("AIRFLOW_CONN_OF_TEAM", json.dumps({"conn_type": "mlflow", "host": "http://other:1"}))
    assert airflow_settings("of_team").tracking_uri == "http://other:1"
    with pytest.raises(AirflowNotFoundException, match="nowhere"):
        airflow_settings("nowhere")


def test_mlflow_connection_has_ui_and_token(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"ui_url": "http://localhost:5000", "token": SECRET}
    connection = {"conn_type": "mlflow", "host": "mlflow", "port": 5000, "extra": json.dumps(extra)}
    monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", json.dumps(connection))
    settings = airflow_settings()
    assert (settings.tracking_uri, settings.tracking_ui) == ("http://mlflow:5000", "http://localhost:5000")
    assert settings.tracking_variables == {"MLFLOW_TRACKING_TOKEN": SECRET}
    assert SECRET not in repr(settings)
    assert "MLFLOW_TRACKING_TOKEN" not in os.environ


def test_mlflow_connection_without_a_host_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", json.dumps({"conn_type": "mlflow"}))
    with pytest.raises(PipelineError, match="the connection has no host"):
        airflow_settings()


def test_dvc_connection_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = {"conn_type": "dvc", "host": "https://git/data.git", "password": SECRET}
    monkeypatch.setenv("AIRFLOW_CONN_DATA", json.dumps(connection))
    settings = airflow_settings()
    expected = {"repo": f"https://token:{SECRET}@git/data.git", "remote": None, "remote_config": {}}
    assert json.loads(settings.connections["data"]) == expected
    assert SECRET not in repr(settings)
    monkeypatch.delenv("AIRFLOW_CONN_DATA")
    assert "data" in settings.connections  # the first look-up is kept


@pytest.mark.parametrize("conn_type", ["docker", "unknown"])
def test_connection_of_another_type_raises(monkeypatch: pytest.MonkeyPatch, conn_type: str) -> None:
    connection = {"conn_type": conn_type, "host": "somewhere", "login": "u", "password": SECRET}
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps(connection))
    with pytest.raises(SourceError, match="the connection 'other' has a type that is not a data source") as caught:
        airflow_settings().connections["other"]
    assert caught.value.got == f"type {conn_type}"


def test_database_connection_is_an_sqlalchemy_url(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    connection = {"conn_type": "postgres", "host": "db", "login": "u", "password": SECRET, "schema": "sales"}
    monkeypatch.setenv("AIRFLOW_CONN_SALES", json.dumps(connection))
    settings = airflow_settings()
    # The driver depends on the installed packages.
    assert re.fullmatch(rf"postgresql(\+\w+)?://u:{SECRET}@db/sales", settings.connections["sales"])
    assert SECRET not in repr(settings)


def test_missing_connection_raises_key_error() -> None:
    connections = airflow_settings().connections
    with pytest.raises(KeyError, match="nowhere"):
        connections["nowhere"]
    assert (list(connections), len(connections), "nowhere" in connections) == ([], 0, False)
