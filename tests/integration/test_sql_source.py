from __future__ import annotations

import contextlib
import logging
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa

from ml_pipelines.adapters.sql import source as sql_source
from ml_pipelines.adapters.sql.source import SqlDataSource
from ml_pipelines.contracts import DataPin
from ml_pipelines.errors import (
    DataError,
    MissingExtra,
    PipelineError,
    ServiceUnavailable,
    SourceError,
    SourceNotFound,
    SourceUnreadable,
)
from ml_pipelines.spec.sources import SqlSource


def fetch(directory: Path, query: str, url: str, chunk_rows: int = 2) -> pl.DataFrame:
    adapter = SqlDataSource(SqlSource(query=query, url=url, chunk_rows=chunk_rows), {})
    out = directory / "out"
    out.mkdir(exist_ok=True)
    path = adapter.fetch(adapter.pin(), str(out))
    assert [entry.name for entry in out.iterdir()] == [Path(path).name] == ["rows.parquet"]
    return pl.read_parquet(path)


def text_of(error: pytest.ExceptionInfo[PipelineError]) -> str:
    return str(error.value)


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    path = tmp_path / "we#ird?.db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript(
            "create table customers (id integer, spent real, name text, label integer);"
            "insert into customers values (1, null, null, 0), (2, null, null, 1), (3, 1.5, 'a:b%c', 0), (4, 2, 'd', 1);"
        )
    return f"sqlite:///{path}".replace("?", "%3F")


def test_types_hold_over_chunks(sqlite: str, tmp_path: Path) -> None:
    table = fetch(tmp_path, "select id, spent, name, null as unknown from customers order by id", sqlite)
    assert table.schema == {"id": pl.Int64, "spent": pl.Float64, "name": pl.String, "unknown": pl.String}
    assert table.rows() == [(1, None, None, None), (2, None, None, None), (3, 1.5, "a:b%c", None), (4, 2.0, "d", None)]


def test_integers_and_floats_become_floats(sqlite: str, tmp_path: Path) -> None:
    within = fetch(tmp_path, "select 1 as x union all select 2.5", sqlite)
    across = fetch(tmp_path, "select 1 as x union all select 2 union all select 2.5", sqlite)
    assert within.schema == across.schema == {"x": pl.Float64}
    assert across["x"].to_list() == [1, 2, 2.5]


def test_a_colon_and_a_percent_sign_are_no_placeholders(sqlite: str, tmp_path: Path) -> None:
    assert fetch(tmp_path, "select id from customers where name like 'a%' and name = 'a:b%c'", sqlite).rows() == [(3,)]


def test_a_pin_names_the_database_without_credentials_or_a_connection() -> None:
    declared = SqlSource(query="select 1", url="postgresql://user:hunter2@${ML_DATA_HOST}:5433/shop")
    pin = SqlDataSource(declared, {"ML_DATA_HOST": "db.example"}).pin()
    assert pin == DataPin(source="sql", location="postgresql://${ML_DATA_HOST}:5433/shop")


def test_a_connection_by_name(sqlite: str, tmp_path: Path) -> None:
    declared = SqlSource(query="select id from customers", connection="warehouse")
    adapter = SqlDataSource(declared, {}, {"warehouse": sqlite})
    assert pl.read_parquet(adapter.fetch(adapter.pin(), str(tmp_path))).height == 4
    with pytest.raises(SourceNotFound, match="there is no connection 'warehouse'") as error:
        SqlDataSource(declared, {}, {"warehous": sqlite}).pin()
    assert "did you mean 'warehous'?" in text_of(error)
    with pytest.raises(SourceNotFound) as error:
        SqlDataSource(declared, {}, {}).pin()
    assert "ML_PIPELINES_CONNECTION_WAREHOUSE" in text_of(error)


def test_sqlite_is_opened_read_only_and_never_created(sqlite: str, tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadable, match="the database can't run the query") as error:
        fetch(tmp_path, "delete from customers", sqlite)
    assert "readonly database" in text_of(error)
    with pytest.raises(SourceNotFound, match="there is no such table or database") as error:
        fetch(tmp_path, "select 1", f"sqlite:///{tmp_path}/none.db")
    assert "unable to open database file" in text_of(error)
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize(
    ("query", "kind", "what", "got"),
    [
        ("select * from costumers", SourceNotFound, "there is no such table or database", "no such table: costumers"),
        ("select nam from customers", SourceUnreadable, "the database can't run the query", "no such column: nam"),
        ("selec 1", SourceUnreadable, "the database can't run the query", "syntax error"),
        ("select id, id from customers", SourceUnreadable, "several columns are called 'id'", "id, id"),
        ("select x'00' as raw", SourceUnreadable, "the column 'raw' holds values that no table can keep", "bytes"),
        ("select 1 as x union all select 'a'", SourceUnreadable, "'x' holds values of several types", "Int64"),
        (
            "select 1 as x union all select 2 union all select 'a'",
            SourceUnreadable,
            "'x' holds values of several types",
            "Int64 and String",
        ),
        ("select id from customers where id > 9", DataError, "the query gives no rows", "id > 9"),
    ],
)
def test_what_is_no_table(
    sqlite: str, tmp_path: Path, query: str, kind: type[PipelineError], what: str, got: str
) -> None:
    with pytest.raises(kind, match=what) as error:
        fetch(tmp_path, query, sqlite)
    assert got in text_of(error)
    assert "fix: " in text_of(error)
    assert not list((tmp_path / "out").iterdir())


def test_a_statement_that_is_no_query(sqlite: str, tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadable, match="the statement is not a query"):
        fetch(tmp_path, "begin", sqlite)


@pytest.mark.parametrize(
    ("url", "kind", "what"),
    [
        ("hunter2", SourceNotFound, "the address is not a database URL"),
        ("nosuch://user:hunter2@host/db", SourceNotFound, "the kind of database is not known"),
        ("mysql+aiomysql://user:hunter2@host/db", MissingExtra, "the driver of the database is not installed"),
        ("postgresql+psycopg2://user:hunter2@127.0.0.1:{0}/db", ServiceUnavailable, "the database does not answer"),
        ("postgres://user:hunter2@127.0.0.1:{0}/db", ServiceUnavailable, "the database does not answer"),
    ],
)
def test_an_address_that_leads_nowhere(tmp_path: Path, url: str, kind: type[PipelineError], what: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(kind, match=what) as error:
            fetch(tmp_path, "select 1", url.format(closed.getsockname()[1]))
    assert "hunter2" not in text_of(error)
    assert "fix: " in text_of(error)


def test_progress_is_told(
    sqlite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sql_source, "_PROGRESS_SECONDS", -1.0)
    with caplog.at_level(logging.INFO, logger=sql_source.__name__):
        fetch(tmp_path, "select id from customers", sqlite)
    assert [record.args[0] for record in caplog.records] == [2, 4]


@pytest.fixture(scope="module")
def postgres(postgres_server: Callable[..., AbstractContextManager[str]]) -> Iterator[str]:
    """The URL of a server that asks for no password, with a user and a password that no message may show."""
    with postgres_server(auth="trust") as url:
        shown = sa.make_url(url).set(password="hunter2").render_as_string(hide_password=False)
        engine = sa.create_engine(shown)
        with engine.begin() as connection:
            connection.exec_driver_sql("create sequence numbers")
        engine.dispose()
        yield shown


@pytest.fixture(params=["psycopg2", "psycopg"])
def server(postgres: str, request: pytest.FixtureRequest) -> str:
    return postgres.replace("psycopg2", request.param)


def test_types_of_postgresql(server: str, tmp_path: Path) -> None:
    query = """
        select i as id, (i / 3.0)::numeric(12, 4) as price, i % 2 = 0 as even, date '2026-10-01' + i as day,
            timestamp '2026-10-01 12:30' as local, timestamptz '2026-10-01 12:30+02' as moment,
            '7d444840-9dc0-11d1-b245-5ffdce74fad2'::uuid as ref, time '12:30' as at,
            case when i > 3 then 'x%' end as late, 1.5::real as single
        from generate_series(1, 5) as i
    """
    table = fetch(tmp_path, query, server)
    assert table.schema == {
        "id": pl.Int64,
        "price": pl.Float64,
        "even": pl.Boolean,
        "day": pl.Date,
        "local": pl.Datetime("us"),
        "moment": pl.Datetime("us", "UTC"),
        "ref": pl.String,
        "at": pl.String,
        "late": pl.String,
        "single": pl.Float64,
    }
    assert table.row(2, named=True) == {
        "id": 3,
        "price": 1.0,
        "even": False,
        "day": date(2026, 10, 4),
        "local": datetime(2026, 10, 1, 12, 30),
        "moment": datetime(2026, 10, 1, 10, 30, tzinfo=UTC),
        "ref": "7d444840-9dc0-11d1-b245-5ffdce74fad2",
        "at": "12:30:00",
        "late": None,
        "single": 1.5,
    }


def test_rows_come_through_a_cursor_on_the_server(server: str, tmp_path: Path) -> None:
    declared = SqlSource(
        query="with n as (select generate_series(1, 10) as x) select x from n", url=server, chunk_rows=3
    )
    url = sa.make_url(server)
    with sql_source._reading(url, "here") as connection:
        chunks = sql_source._chunks(connection, declared, "here")
        assert list(next(chunks)["x"]) == [1, 2, 3]
        cursors = connection.exec_driver_sql("select statement from pg_cursors where name <> ''").scalars().all()
        assert any("generate_series" in statement for statement in cursors)
        assert [len(chunk["x"]) for chunk in chunks] == [3, 3, 1]


@pytest.mark.parametrize(
    ("query", "kind", "what", "got"),
    [
        ("select * from nowhere", SourceNotFound, "there is no such table", 'relation "nowhere" does not exist'),
        ("select * from nowhere.at_all", SourceNotFound, "there is no such table", "does not exist"),
        ("select x from pg_class", SourceUnreadable, "the database can't run the query", 'column "x" does not exist'),
        ("selec 1", SourceUnreadable, "the database can't run the query", "syntax error"),
        ("select '{}'::json as j", SourceUnreadable, "the column 'j' holds values that no table can keep", "dict"),
        ("select '\\x00'::bytea as b", SourceUnreadable, "the column 'b' holds values that no table can keep", "fix"),
        ("select 1 where false", DataError, "the query gives no rows", "widen the query"),
        ("select pg_sleep(9), set_config('a.b', 'c', true)", ServiceUnavailable, "does not answer", "timeout"),
        ("select pg_terminate_backend(pg_backend_pid())", ServiceUnavailable, "does not answer", "terminat"),
        ("select nextval('numbers')", SourceUnreadable, "the database can't run the query", "read-only transaction"),
    ],
)
def test_what_postgresql_refuses(
    server: str, tmp_path: Path, query: str, kind: type[PipelineError], what: str, got: str
) -> None:
    with pytest.raises(kind, match=what) as error:
        fetch(tmp_path, query, f"{server}?options=-c%20statement_timeout%3D300")
    assert got in text_of(error)
    assert "hunter2" not in text_of(error)


def test_a_database_and_a_user_that_do_not_exist(server: str, tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound, match="there is no such table or database") as error:
        fetch(tmp_path, "select 1", server.replace("/postgres", "/nowhere"))
    assert 'database "nowhere" does not exist' in text_of(error)
    with pytest.raises(SourceError, match="the database refuses access") as error:
        fetch(tmp_path, "select 1", server.replace("owner", "stranger"))
    assert 'role "stranger" does not exist' in text_of(error)
