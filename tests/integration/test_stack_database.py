"""The databases of the stack, on a real PostgreSQL: each owner enters its own, by the password that was given last."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from sqlalchemy.engine import make_url

PREPARE = Path(__file__).resolve().parents[2] / "include" / "docker" / "prepare.py"


def create_database(*arguments: Any) -> None:
    spec = importlib.util.spec_from_file_location("docker_prepare", PREPARE)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    module.create_database(*arguments)


def test_a_database_has_an_owner_whose_password_may_change(
    postgres_server: Callable[..., AbstractContextManager[str]],
) -> None:
    with postgres_server() as address:
        url = make_url(address)

        def connect(user: str, password: str, database: str) -> Any:
            return closing(
                psycopg2.connect(host=url.host, port=url.port, user=user, password=password, dbname=database)
            )

        with connect(url.username, url.password, url.database) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                for name in ("one", "two"):
                    create_database(cursor, name, "first")
                create_database(cursor, "one", 'it\'s "second"')
        with connect("one", 'it\'s "second"', "one") as connection, connection, connection.cursor() as cursor:
            cursor.execute("create table mine (id integer)")
        for user, password, database in (("one", "first", "one"), ("two", "first", "one")):
            with pytest.raises(psycopg2.OperationalError), connect(user, password, database):
                pass
