"""What a person sees of the connections: the form, and what "Test" says, over the REST API and the command."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from tests.integration.airflow.server import Server, server_of

pytestmark = [
    pytest.mark.xdist_group("airflow-standalone"),
    pytest.mark.timeout(900),
    # pygtrie, below DVC, uses what it deprecates.
    pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def api(make_airflow: Callable[[], Any]) -> Iterator[Server]:
    with server_of(make_airflow(), AIRFLOW__CORE__TEST_CONNECTION="Enabled") as server:
        server.start("airflow api-server")
        server.login()
        yield server


def tried(api: Server, kind: str, **fields: Any) -> tuple[bool, str]:
    """How a connection's test goes, and what it says."""
    told = api.call("POST", "/connections/test", {"connection_id": f"my_{kind}", "conn_type": kind, **fields})
    return told["status"], told["message"]


def test_the_forms_are_offered(api: Server) -> None:
    answer = api.session.get(f"{api.url}/ui/connections/hook_meta", timeout=60)
    forms = {form["connection_type"]: form for form in answer.json()}
    mlflow, dvc = forms["mlflow"], forms["dvc"]
    assert (mlflow["hook_name"], dvc["hook_name"]) == ("MLflow", "DVC")
    assert mlflow["standard_fields"]["host"]["title"] == "Tracking URI"
    assert list(mlflow["extra_fields"]) == ["token", "ui_url", "verify"]
    assert list(dvc["extra_fields"]) == ["remote", "remote_config"]
    for field in (mlflow["extra_fields"]["token"], dvc["extra_fields"]["remote_config"]):
        assert field["schema"]["format"] == "password"


def test_mlflow(api: Server, guarded_mlflow: Any, tmp_path: Path) -> None:
    url = guarded_mlflow.url
    well = (True, f"MLflow {version('mlflow')} with 0 registered models")
    user = {"login": guarded_mlflow.user, "password": guarded_mlflow.password}
    assert tried(api, "mlflow", host=url, **user) == well
    assert tried(api, "mlflow", host="127.0.0.1", port=guarded_mlflow.port, schema="http", **user) == well
    assert tried(api, "mlflow", host=url, extra=json.dumps({"token": guarded_mlflow.token})) == well
    refused = (False, f"{url} rejects the credentials")
    assert tried(api, "mlflow", host=url, login=guarded_mlflow.user, password="wr0ng-password") == refused
    good, told = tried(api, "mlflow", host=f"{api.url}/nothing")
    assert not good
    assert told.startswith(f"{api.url}/nothing is not MLflow: it answered ")
    assert tried(api, "mlflow")[1].startswith("the connection has no host")
    good, told = tried(api, "mlflow", host=f"sqlite:///{tmp_path}/mlflow.db")
    assert not good
    assert told.startswith(f"the file {tmp_path}/mlflow.db does not exist on this machine")


def test_dvc(api: Server, dvc_repo: Callable[..., Any], git_host: Any) -> None:
    repo = dvc_repo({"data/a.csv": b"a\n1\n"})
    fields = {"host": f"{git_host.url}/git/data-repo", "password": git_host.token}
    well = (True, f"main is at {repo.git('rev-parse', 'HEAD')[:12]}")
    assert tried(api, "dvc", **fields) == well
    good, told = tried(api, "dvc", **fields | {"password": "wr0ng-password"})
    assert (good, told.partition(" - ")[0]) == (False, "the git server refuses access")
    assert "wr0ng" not in told

    command = ["airflow", "connections", "test", "sales_data"]
    given = api.environment | {"AIRFLOW_CONN_SALES_DATA": json.dumps({"conn_type": "dvc", **fields})}
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Connection success!" in done.stdout
    assert git_host.token not in done.stdout + done.stderr
