from __future__ import annotations

from typing import Any

import pytest
from tests.unit.ml_pipelines_airflow.release.conftest import Server

from ml_pipelines.errors import RequestError, ServiceUnavailable
from ml_pipelines_airflow.release.airflow_client import AirflowApi


def api_of(server: Server, **variables: str) -> AirflowApi:
    variables = {
        "AIRFLOW_API_URL": f"{server.url}/",
        "AIRFLOW_API_USER": "robot",
        "AIRFLOW_API_PASSWORD": "secret",
    } | variables
    return AirflowApi.from_environment(variables)


def a_dag(name: str, bundle: str = "ml") -> dict[str, Any]:
    return {"dag_id": name, "bundle_name": bundle, "bundle_version": "1-a", "last_parsed_time": "2026-11-26T10:00:00Z"}


def test_bundle_state_reads_all_pages_of_one_bundle(server: Server) -> None:
    server.dags = [a_dag(f"dag_{number:03}") for number in range(205)] + [a_dag("foreign", "other")]
    error = {"filename": "a.py", "timestamp": "2026-11-26T10:00:00Z", "stack_trace": "ValueError", "bundle_name": "ml"}
    server.errors = [error, error | {"filename": "b.py", "bundle_name": "other"}]
    seen = api_of(server).bundle_state("ml")
    assert sorted(seen.dags) == [f"dag_{number:03}" for number in range(205)]
    assert (seen.dags["dag_000"].version, seen.dags["dag_000"].parsed_at) == ("1-a", "2026-11-26T10:00:00Z")
    assert {file: fault.text for file, fault in seen.faults.items()} == {"a.py": "ValueError"}


def test_client_logs_in_again_when_its_token_is_rejected(server: Server) -> None:
    api = api_of(server)
    api.bundle_state("ml")
    api.bundle_state("ml")
    assert server.asked.count("POST /auth/token") == 1
    server.tokens.clear()
    api.bundle_state("ml")
    assert server.asked.count("POST /auth/token") == 2


def test_repr_hides_the_password(server: Server) -> None:
    assert "secret" not in repr(api_of(server))


def test_wrong_password_is_an_error_without_the_password(server: Server) -> None:
    with pytest.raises(RequestError) as caught:
        api_of(server, AIRFLOW_API_PASSWORD="wr0ng-one").bundle_state("ml")
    assert caught.value.what == "Airflow rejects the user 'robot'"
    assert caught.value.where == f"POST {server.url}/auth/token"
    assert caught.value.got == "401 Unauthorized"
    assert "AIRFLOW_API_PASSWORD" in caught.value.fix
    assert "wr0ng-one" not in str(caught.value)


def test_server_error_is_transient(server: Server) -> None:
    server.status = 503
    with pytest.raises(ServiceUnavailable, match="Airflow returned a server error") as caught:
        api_of(server).bundle_state("ml")
    assert caught.value.got == "503 Service Unavailable"


def test_refused_connection_is_transient(server: Server) -> None:
    api = AirflowApi("http://127.0.0.1:1", "robot", "secret")
    with pytest.raises(ServiceUnavailable, match="Airflow does not answer") as caught:
        api.bundle_state("ml")
    assert (caught.value.where, caught.value.got) == ("http://127.0.0.1:1", "ConnectionError")


def test_invalid_address_is_an_error(server: Server) -> None:
    with pytest.raises(RequestError, match="the address of the API is not valid") as caught:
        AirflowApi("airflow", "robot", "secret").bundle_state("ml")
    assert (caught.value.where, caught.value.fix) == ("airflow", "set AIRFLOW_API_URL")


def test_other_server_is_an_error(server: Server) -> None:
    server.status = 404
    with pytest.raises(RequestError, match="the address is not the API of Airflow 3") as caught:
        api_of(server).bundle_state("ml")
    assert caught.value.got == "404 Not Found"


@pytest.mark.parametrize(
    ("variables", "missing"),
    [
        ({}, "AIRFLOW_API_URL and AIRFLOW_API_USER and AIRFLOW_API_PASSWORD are not set"),
        ({"AIRFLOW_API_URL": "http://a", "AIRFLOW_API_USER": "robot"}, "AIRFLOW_API_PASSWORD is not set"),
    ],
    ids=["nothing", "no password"],
)
def test_from_environment_names_missing_variables(variables: dict[str, str], missing: str) -> None:
    with pytest.raises(RequestError) as caught:
        AirflowApi.from_environment(variables)
    assert caught.value.what == missing
    assert "arguments" in caught.value.fix
