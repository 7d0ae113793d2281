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
    """MLflow's variables are none but those of the process; after the test they still are."""
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


def test_user_and_password_or_a_token_are_let_in(guarded_mlflow, connect, environment) -> None:
    for credentials in (
        {"login": guarded_mlflow.user, "password": guarded_mlflow.password},
        {"extra": {"token": guarded_mlflow.token}},
    ):
        hook = connect(host=guarded_mlflow.url, **credentials)
        assert hook.test_connection() == (True, f"MLflow {version('mlflow')} with 0 registered models")
        client = hook.get_conn()
        assert [each.name for each in client.search_experiments()] == ["Default"]
        assert client.get_experiment_by_name("nothing") is None
        assert not {name for name in os.environ if name.startswith("MLFLOW_TRACKING")} - environment.keys()


def test_who_is_not_known_is_told_so(guarded_mlflow, connect) -> None:
    told = (False, f"{guarded_mlflow.url} rejects the credentials")
    assert connect(host=guarded_mlflow.url).test_connection() == told
    hook = connect(host=guarded_mlflow.url, login=guarded_mlflow.user, password="wr0ng-password")
    assert hook.test_connection() == told
    with (
        pytest.raises(PipelineError, match="MLflow refuses access") as caught,
        MlflowServer(hook.tracking_uri, variables=hook.variables).client() as client,
    ):
        client.search_experiments()
    assert "give credentials that may write: in the connection" in caught.value.fix
    assert "wr0ng" not in str(caught.value)


def test_a_task_works_with_the_connection_and_no_secret_gets_out(
    guarded_mlflow, connect, environment, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd
) -> None:
    caplog.set_level(logging.DEBUG)
    user, password = guarded_mlflow.user, guarded_mlflow.password
    connect(host=guarded_mlflow.url, login=user, password=password, extra={"ui_url": "https://mlflow.example.com/"})
    settings = airflow_settings()
    services = ConnectedServices(settings)
    assert services.registry.by_alias("credit", "champion") is None
    server = services.tracking._server
    (tmp_path / "report.txt").write_text("well")
    with server.client() as client:
        from mlflow.artifacts import download_artifacts

        experiment = client.create_experiment("hook")
        run = client.create_run(experiment)
        client.log_artifact(run.info.run_id, str(tmp_path / "report.txt"))
        uri = f"{run.info.artifact_uri}/report.txt"
        fetched = download_artifacts(uri, dst_path=str(tmp_path / "got"), tracking_uri=server.uri)
        assert Path(fetched).read_text() == "well"
    assert {name for name in os.environ if name.startswith("MLFLOW_TRACKING")} == environment.keys()
    page = server.page("experiments", experiment)
    assert page == f"https://mlflow.example.com/#/experiments/{experiment}"
    out, err = capfd.readouterr()
    kept = json.dumps([uri, page, repr(settings)])
    for text in (caplog.text, out, err, kept):
        assert password not in text
        assert "s3cret" not in text


def test_an_address_that_holds_the_password_works_and_does_not_show_it(guarded_mlflow, connect) -> None:
    user = f"{quote(guarded_mlflow.user)}:{quote(guarded_mlflow.password, safe='')}"
    uri = guarded_mlflow.url.replace("://", f"://{user}@")
    hook = connect(host=uri)
    assert hook.test_connection()[0]
    assert hook.tracking_uri == hook.ui_url == guarded_mlflow.url
    server = MlflowServer(uri)
    with server.client() as client:
        assert client.tracking_uri == guarded_mlflow.url
        client.search_experiments()
