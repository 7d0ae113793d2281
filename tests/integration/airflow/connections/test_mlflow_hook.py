from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from ml_pipelines.adapters.mlflow.client import MlflowServer
from ml_pipelines.errors import PipelineError
from ml_pipelines.services.connected import ConnectedServices
from ml_pipelines_airflow.connections import airflow_settings
from ml_pipelines_airflow.hooks.mlflow import MLflowHook

pytestmark = [pytest.mark.xdist_group("airflow-standalone"), pytest.mark.timeout(480)]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The variables of MLflow in this process, which the hook must not change."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_TRACKING")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_TRACKING")}


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., MLflowHook]:
    def define(**fields: Any) -> MLflowHook:
        monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", json.dumps({"conn_type": "mlflow", **fields}))
        return MLflowHook()

    return define


def test_hook_authenticates_by_password_or_token(mlflow_proxy, connect, environment) -> None:
    for credentials in (
        {"login": mlflow_proxy.user, "password": mlflow_proxy.password},
        {"extra": {"token": mlflow_proxy.token}},
    ):
        hook = connect(host=mlflow_proxy.url, **credentials)
        assert hook.test_connection() == (True, f"MLflow {version('mlflow')} with 0 registered models")
        client = hook.get_conn()
        assert [experiment.name for experiment in client.search_experiments()] == ["Default"]
        assert client.get_experiment_by_name("nothing") is None
        assert not {name for name in os.environ if name.startswith("MLFLOW_TRACKING")} - environment.keys()


def test_wrong_credentials_are_reported_without_them(mlflow_proxy, connect) -> None:
    failure = (False, f"{mlflow_proxy.url} rejects the credentials")
    assert connect(host=mlflow_proxy.url).test_connection() == failure
    hook = connect(host=mlflow_proxy.url, login=mlflow_proxy.user, password="wr0ng-password")
    assert hook.test_connection() == failure
    with (
        pytest.raises(PipelineError, match="MLflow refuses access") as caught,
        MlflowServer(hook.tracking_uri, variables=hook.variables).client() as client,
    ):
        client.search_experiments()
    assert "give credentials that may write: in the connection" in caught.value.fix
    assert "wr0ng" not in str(caught.value)


def test_task_uses_the_connection_without_showing_the_secret(
    mlflow_proxy, connect, environment, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd
) -> None:
    caplog.set_level(logging.DEBUG)
    user, password = mlflow_proxy.user, mlflow_proxy.password
    connect(host=mlflow_proxy.url, login=user, password=password, extra={"ui_url": "https://mlflow.example.com/"})
    settings = airflow_settings()
    services = ConnectedServices(settings)
    assert services.registry.by_alias("credit", "champion") is None
    server = services.tracking._server
    (tmp_path / "report.txt").write_text("text")
    with server.client() as client:
        from mlflow.artifacts import download_artifacts

        experiment = client.create_experiment("hook")
        run = client.create_run(experiment)
        client.log_artifact(run.info.run_id, str(tmp_path / "report.txt"))
        uri = f"{run.info.artifact_uri}/report.txt"
        fetched = download_artifacts(uri, dst_path=str(tmp_path / "got"), tracking_uri=server.uri)
        assert Path(fetched).read_text() == "text"
    assert {name for name in os.environ if name.startswith("MLFLOW_TRACKING")} == environment.keys()
    page = server.page("experiments", experiment)
    assert page == f"https://mlflow.example.com/#/experiments/{experiment}"
    out, err = capfd.readouterr()
    documents = json.dumps([uri, page, repr(settings)])
    for text in (caplog.text, out, err, documents):
        assert password not in text
        assert "s3cret" not in text


def test_address_with_a_password_works_without_showing_it(mlflow_proxy, connect) -> None:
    user = f"{quote(mlflow_proxy.user)}:{quote(mlflow_proxy.password, safe='')}"
    uri = mlflow_proxy.url.replace("://", f"://{user}@")
    hook = connect(host=uri)
    assert hook.test_connection()[0]
    assert hook.tracking_uri == hook.ui_url == mlflow_proxy.url
    server = MlflowServer(uri)
    with server.client() as client:
        assert client.tracking_uri == mlflow_proxy.url
        client.search_experiments()
