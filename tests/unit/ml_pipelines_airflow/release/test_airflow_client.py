from __future__ import annotations

from typing import Any

import pytest
from tests.unit.ml_pipelines_airflow.release.conftest import Server

from ml_pipelines.errors import RequestError, ServiceUnavailable
from ml_pipelines_airflow.release.airflow_client import AirflowApi


def api_of(server: Server, **given: str) -> AirflowApi:
    given = {"AIRFLOW_API_URL": f"{server.url}/", "AIRFLOW_API_USER": "robot", "AIRFLOW_API_PASSWORD": "secret"} | given
    return AirflowApi.from_environment(given)


def a_dag(name: str, bundle: str = "ml") -> dict[str, Any]:
    return {"dag_id": name, "bundle_name": bundle, "bundle_version": "1-a", "last_parsed_time": "2026-11-26T10:00:00Z"}


def test_a_snapshot_is_of_one_bundle_and_of_all_pages(server: Server) -> None:
    server.dags = [a_dag(f"dag_{number:03}") for number in range(205)] + [a_dag("foreign", "other")]
    error = {"filename": "a.py", "timestamp": "2026-11-26T10:00:00Z", "stack_trace": "ValueError", "bundle_name": "ml"}
    server.errors = [error, error | {"filename": "b.py", "bundle_name": "other"}]
    seen = api_of(server).bundle_state("ml")
    assert sorted(seen.dags) == [f"dag_{number:03}" for number in range(205)]
    assert (seen.dags["dag_000"].version, seen.dags["dag_000"].parsed_at) == ("1-a", "2026-11-26T10:00:00Z")
    assert {file: fault.text for file, fault in seen.faults.items()} == {"a.py": "ValueError"}


def test_one_login_serves_until_the_token_is_not_known_any_more(server: Server) -> None:
    api = api_of(server)
    api.bundle_state("ml")
    api.bundle_state("ml")
    assert server.asked.count("POST /auth/token") == 1
    server.tokens.clear()
    api.bundle_state("ml")
    assert server.asked.count("POST /auth/token") == 2


def test_the_password_is_not_shown(server: Server) -> None:
    assert "secret" not in repr(api_of(server))


def test_a_wrong_password_is_told_without_it(server: Server) -> None:
    with pytest.raises(RequestError) as caught:
        api_of(server, AIRFLOW_API_PASSWORD="wr0ng-one").bundle_state("ml")
    assert caught.value.what == "Airflow does not let the user 'robot' in"
    assert caught.value.where == f"POST {server.url}/auth/token"
    assert caught.value.got == "401 Unauthorized"
    assert "AIRFLOW_API_PASSWORD" in caught.value.fix
    assert "wr0ng-one" not in str(caught.value)


def test_a_fault_of_the_server_may_pass(server: Server) -> None:
    server.status = 503
    with pytest.raises(ServiceUnavailable, match="Airflow answers with a fault of its own") as caught:
        api_of(server).bundle_state("ml")
    assert caught.value.got == "503 Service Unavailable"


def test_nobody_there_may_pass(server: Server) -> None:
    api = AirflowApi("http://127.0.0.1:1", "robot", "secret")
    with pytest.raises(ServiceUnavailable, match="Airflow does not answer") as caught:
        api.bundle_state("ml")
    assert (caught.value.where, caught.value.got) == ("http://127.0.0.1:1", "ConnectionError")


def test_an_address_that_is_none(server: Server) -> None:
    with pytest.raises(RequestError, match="this is no address of an API") as caught:
        AirflowApi("airflow", "robot", "secret").bundle_state("ml")
    assert (caught.value.where, caught.value.fix) == ("airflow", "set AIRFLOW_API_URL")


def test_a_server_that_is_no_airflow(server: Server) -> None:
    server.status = 404
    with pytest.raises(RequestError, match="this is not the API of an Airflow 3") as caught:
        api_of(server).bundle_state("ml")
    assert caught.value.got == "404 Not Found"


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({}, "AIRFLOW_API_URL and AIRFLOW_API_USER and AIRFLOW_API_PASSWORD are not set"),
        ({"AIRFLOW_API_URL": "http://a", "AIRFLOW_API_USER": "robot"}, "AIRFLOW_API_PASSWORD is not set"),
    ],
    ids=["nothing", "no password"],
)
def test_what_the_environment_lacks_is_told(given: dict[str, str], missing: str) -> None:
    with pytest.raises(RequestError) as caught:
        AirflowApi.from_environment(given)
    assert caught.value.what == missing
    assert "arguments" in caught.value.fix
