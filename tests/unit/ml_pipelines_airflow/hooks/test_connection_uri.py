from __future__ import annotations

from typing import Any

import pytest
from airflow.models import Connection as StoredConnection
from airflow.sdk import Connection
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_pipelines_airflow.hooks.connection_uri import connection_address


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ""),
        ({"host": " "}, ""),
        ({"host": "mlflow"}, "http://mlflow"),
        ({"host": "mlflow:5000"}, "http://mlflow:5000"),
        ({"host": "mlflow", "port": 5000}, "http://mlflow:5000"),
        ({"host": "mlflow", "port": 5000, "schema": "https"}, "https://mlflow:5000"),
        ({"host": "https://mlflow", "port": 5000, "schema": "team/a"}, "https://mlflow:5000/team/a"),
        ({"host": "https://mlflow:1/x/", "port": 5000, "schema": "/a"}, "https://mlflow:1/x/a"),
        ({"host": "git.example.com", "schema": "team/data.git"}, "http://git.example.com/team/data.git"),
        ({"host": "git@git.example.com:team/data.git"}, "git@git.example.com:team/data.git"),
        ({"host": "backup:team/data.git"}, "backup:team/data.git"),
        ({"host": "ssh://git@host", "port": 22, "schema": "team/data.git"}, "ssh://git@host:22/team/data.git"),
        ({"host": "/data/repo", "port": 1}, "/data/repo"),
        ({"host": "~/repo"}, "~/repo"),
        ({"host": "sqlite:////data/mlflow.db", "port": 1, "schema": "x"}, "sqlite:////data/mlflow.db"),
        ({"host": "postgresql://u:p@db:5432/mlflow"}, "postgresql://u:p@db:5432/mlflow"),
    ],
)
def test_one_address_however_it_was_entered(fields: dict[str, Any], expected: str) -> None:
    assert connection_address(Connection(conn_id="c", conn_type="mlflow", **fields), protocol="http") == expected


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("mlflow://me:pw@mlflow:5000", "http://mlflow:5000"),
        ("mlflow://mlflow:5000/https", "https://mlflow:5000"),
        ("mlflow://https://me:pw@mlflow:5000/team", "https://mlflow:5000/team"),
    ],
)
def test_a_connection_given_as_uri(uri: str, expected: str) -> None:
    assert connection_address(Connection.from_uri(uri, "c"), protocol="http") == expected


hosts = st.from_regex(r"[a-z][a-z0-9-]{0,8}(\.[a-z]{2,5})?", fullmatch=True)


@settings(deadline=None)  # the first connection makes Airflow read its configuration
@given(
    host=st.one_of(
        hosts,
        st.builds(
            "{}://{}/{}".format, st.sampled_from(["http", "https", "ssh"]), hosts, st.from_regex(r"[\w/.-]{0,9}")
        ),
        st.builds("sqlite:////{}".format, st.from_regex(r"[A-Za-z0-9/_. -]{1,12}", fullmatch=True)),
    ),
    port=st.none() | st.integers(1, 65535),
)
def test_the_way_through_a_uri_changes_nothing(host: str, port: int | None) -> None:
    """Airflow's form tests a connection by its URI."""
    fields = {"conn_id": "c", "conn_type": "mlflow", "host": host.strip(), "port": port}
    entered = StoredConnection(**fields)  # noqa: AIR311 - the server's own class, which writes the URI
    output = Connection.from_uri(entered.get_uri(), "c")
    assert connection_address(output, protocol="http") == connection_address(entered, protocol="http")
