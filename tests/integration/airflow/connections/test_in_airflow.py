"""Connection forms and connection tests over the REST API and the command line."""

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
    # pygtrie, a dependency of DVC, uses its own deprecated API.
    pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def api(make_airflow: Callable[[], Any]) -> Iterator[Server]:
    with server_of(make_airflow(), AIRFLOW__CORE__TEST_CONNECTION="Enabled") as server:
        server.start("airflow api-server")
        server.login()
        yield server


def run_test(api: Server, conn_type: str, **fields: Any) -> tuple[bool, str]:
    """Test a connection, and return success and message."""
    body = {"connection_id": f"my_{conn_type}", "conn_type": conn_type, **fields}
    answer = api.call("POST", "/connections/test", body)
    return answer["status"], answer["message"]


def test_connection_types_have_forms(api: Server) -> None:
    answer = api.session.get(f"{api.url}/ui/connections/hook_meta", timeout=60)
    forms = {form["connection_type"]: form for form in answer.json()}
    mlflow, dvc = forms["mlflow"], forms["dvc"]
    assert (mlflow["hook_name"], dvc["hook_name"]) == ("MLflow", "DVC")
    assert mlflow["standard_fields"]["host"]["title"] == "Tracking URI"
    assert list(mlflow["extra_fields"]) == ["token", "ui_url", "verify"]
    assert list(dvc["extra_fields"]) == ["remote", "remote_config"]
    for field in (mlflow["extra_fields"]["token"], dvc["extra_fields"]["remote_config"]):
        assert field["schema"]["format"] == "password"


def test_mlflow_connection(api: Server, mlflow_proxy: Any, tmp_path: Path) -> None:
    url = mlflow_proxy.url
    success = (True, f"MLflow {version('mlflow')} with 0 registered models")
    user = {"login": mlflow_proxy.user, "password": mlflow_proxy.password}
    assert run_test(api, "mlflow", host=url, **user) == success
    assert run_test(api, "mlflow", host="127.0.0.1", port=mlflow_proxy.port, schema="http", **user) == success
    assert run_test(api, "mlflow", host=url, extra=json.dumps({"token": mlflow_proxy.token})) == success
    failure = (False, f"{url} rejects the credentials")
    assert run_test(api, "mlflow", host=url, login=mlflow_proxy.user, password="wr0ng-password") == failure
    ok, message = run_test(api, "mlflow", host=f"{api.url}/nothing")
    assert not ok
    assert message.startswith(f"{api.url}/nothing is not MLflow: it answered ")
    assert run_test(api, "mlflow")[1].startswith("the connection has no host")
    ok, message = run_test(api, "mlflow", host=f"sqlite:///{tmp_path}/mlflow.db")
    assert not ok
    assert message.startswith(f"the file {tmp_path}/mlflow.db does not exist on this machine")


def test_dvc_connection(api: Server, dvc_repo: Callable[..., Any], git_host: Any) -> None:
    repo = dvc_repo({"data/a.csv": b"a\n1\n"})
    fields = {"host": f"{git_host.url}/git/data-repo", "password": git_host.token}
    success = (True, f"main is at {repo.git('rev-parse', 'HEAD')[:12]}")
    assert run_test(api, "dvc", **fields) == success
    ok, message = run_test(api, "dvc", **fields | {"password": "wr0ng-password"})
    assert (ok, message.partition(" - ")[0]) == (False, "the git server refuses access")
    assert "wr0ng" not in message

    command = ["airflow", "connections", "test", "sales_data"]
    environment = api.environment | {"AIRFLOW_CONN_SALES_DATA": json.dumps({"conn_type": "dvc", **fields})}
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert "Connection success!" in process.stdout
    assert git_host.token not in process.stdout + process.stderr
