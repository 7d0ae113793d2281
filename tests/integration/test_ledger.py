"""The ledger on SQLite and on PostgreSQL, used by several processes at once."""

from __future__ import annotations

import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import sqlalchemy as sa

from ml_pipelines.adapters.sql.database import Database
from ml_pipelines.adapters.sql.ledger import SqlLedger
from ml_pipelines.adapters.sql.model_lock import model_lock
from ml_pipelines.contracts import Decision, Identity
from ml_pipelines.errors import LedgerError, ServiceUnavailable
from ml_pipelines.ports.ledger_entry import RunDetails

IDENTITY = Identity(pipeline="p", run_id="r", task_id="t")
HELD = Decision(outcome="held", model="m", reason="so")


@pytest.fixture(scope="module")
def server(postgres_server: Callable[..., AbstractContextManager[str]]) -> Iterator[str]:
    with postgres_server() as url:
        yield url


@pytest.fixture
def postgres(server: str) -> str:
    """A new database of the server."""
    name = f"ledger_{secrets.token_hex(8)}"
    execute(server, f"CREATE DATABASE {name}")
    return server.rpartition("/")[0] + f"/{name}"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    return str(request.getfixturevalue("postgres"))


def execute(url: str, *statements: str) -> None:
    """Run statements as the owner of the database."""
    with closing(psycopg2.connect(url.replace("+psycopg2", ""))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)


@contextmanager
def worker(url: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(Path(__file__).with_name("ledger_worker.py")), url, *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_processes_that_write_first_and_at_once_make_one_chain(url: str) -> None:
    """Neither finds any tables; both make them, and then their entries."""
    with worker(url, "record", "left", "20") as left, worker(url, "record", "right", "20") as right:
        for process in (left, right):
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in (left, right):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [process.wait(240) for process in (left, right)] == [0, 0]
    ledger = SqlLedger(url)
    entries = ledger.entries("m", limit=100)
    assert [entry.seq for entry in entries] == list(range(40, 0, -1))
    assert {entry.details.approver for entry in entries} == {"left", "right"}
    assert ledger.verify("m") == ()
    assert ledger.record(IDENTITY, HELD, RunDetails()) == ledger.record(IDENTITY, HELD, RunDetails())


def test_a_turn_ends_with_the_process_that_has_it(url: str) -> None:
    SqlLedger(url).models()
    with worker(url, "hold") as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        output = "the model lock of m was not free in time"
        with pytest.raises(ServiceUnavailable, match=output), model_lock(Database(url), "m", wait_seconds=0.2):
            pass
        with model_lock(Database(url), "other"):
            pass
        had = threading.Event()

        def wait() -> None:
            with model_lock(Database(url), "m"):
                had.set()

        waiting = threading.Thread(target=wait)
        waiting.start()
        assert not had.is_set()
        holder.kill()
        assert had.wait(240)
        waiting.join(60)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM ml_ledger_entries",
        "UPDATE ml_ledger_entries SET seq = 7",
        "INSERT INTO ml_ledger_entries VALUES (9, 'm', 1, 'p', 'r', '', '') ON CONFLICT (model, seq)"
        " DO UPDATE SET text = excluded.text",
        "INSERT INTO ml_ledger_entries VALUES (9, 'm', 3, 'p', 'r', '', '')",
        "DELETE FROM ml_ledger_heads",
        "UPDATE ml_ledger_heads SET hash = 'x'",
        "UPDATE ml_ledger_heads SET seq = 0",
        "INSERT INTO ml_ledger_heads VALUES ('m', 0, 'x') ON CONFLICT (model) DO UPDATE SET seq = 0",
        "INSERT INTO ml_ledger_heads VALUES ('n', 7, 'x')",
    ],
)
def test_the_database_refuses_any_change_of_entries_and_heads(url: str, statement: str) -> None:
    ledger = SqlLedger(url)
    entry = ledger.record(IDENTITY, HELD, RunDetails())
    refused = pytest.raises(sa.exc.DBAPIError, match="keeps every entry as it was written")
    with refused, sa.create_engine(url, poolclass=sa.NullPool).begin() as connection:
        connection.exec_driver_sql(statement)
    assert (ledger.verify("m"), ledger.entries("m")) == ((), (entry,))


@pytest.mark.parametrize("table", ["ml_ledger_entries", "ml_ledger_heads"])
def test_postgresql_refuses_truncate(postgres: str, table: str) -> None:
    SqlLedger(postgres).record(IDENTITY, HELD, RunDetails())
    with pytest.raises(psycopg2.Error, match="keeps every entry as it was written"):
        execute(postgres, f"TRUNCATE {table}")


@pytest.mark.parametrize(
    ("statement", "flaw"),
    [
        ("UPDATE ml_ledger_heads SET hash = 'x'", "entry 1 was altered: the head stores another hash of it"),
        ("DELETE FROM ml_ledger_entries", "entry 1 is missing: the chain is cut off at its end"),
        (
            "UPDATE ml_ledger_heads SET seq = 0",
            "entry 1 is after entry 0, the last one that the head stores",
        ),
        ("DELETE FROM ml_ledger_heads", "the head of the chain is missing; entry 1 is the last one found"),
    ],
)
def test_verify_reports_a_changed_head_and_a_truncated_tail(url: str, statement: str, flaw: str) -> None:
    ledger = SqlLedger(url)
    ledger.record(IDENTITY, HELD, RunDetails())
    with sa.create_engine(url, poolclass=sa.NullPool).begin() as connection:
        for drop in _without_triggers(connection):
            connection.exec_driver_sql(drop)
        connection.exec_driver_sql(statement)
    assert ledger.verify("m") == (flaw,)


def _without_triggers(connection: sa.Connection) -> list[str]:
    """The statements by which the owner of the database turns the triggers off."""
    if connection.dialect.name == "postgresql":
        return [f"ALTER TABLE ml_ledger_{table} DISABLE TRIGGER ALL" for table in ("entries", "heads")]
    names = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").scalars()
    return [f"DROP TRIGGER {name}" for name in names]


def test_what_the_owner_of_the_database_has_altered_is_found(postgres: str) -> None:
    ledger = SqlLedger(postgres)
    for number in range(3):
        ledger.record(IDENTITY.model_copy(update={"run_id": str(number)}), HELD, RunDetails())
    execute(
        postgres,
        "ALTER TABLE ml_ledger_entries DISABLE TRIGGER ALL",
        "UPDATE ml_ledger_entries SET text = replace(text, 'so', 'no') WHERE seq = 2",
        "DELETE FROM ml_ledger_entries WHERE seq = 3",
    )
    assert ledger.verify("m") == (
        "entry 2 was altered: its text has another hash than the stored one",
        "entry 3 is missing: the chain is cut off at its end",
    )


def test_tables_of_a_newer_version_are_left_alone(postgres: str) -> None:
    SqlLedger(postgres).models()
    execute(postgres, "UPDATE ml_ledger_version SET version_num = '0999'")
    with pytest.raises(LedgerError, match="the ledger's tables are newer than this version of the package"):
        SqlLedger(postgres).models()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"password": "wr0ng"}, "the ledger's database refuses access"),
        ({"database": "nowhere"}, "the ledger's database does not exist"),
    ],
)
def test_what_postgresql_refuses_is_told_without_the_password(postgres: str, change: Any, what: str) -> None:
    wrong = sa.make_url(postgres).set(**change)
    with pytest.raises(LedgerError, match=what) as caught:
        SqlLedger(wrong.render_as_string(hide_password=False)).models()
    assert str(wrong.password) not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.where == f"postgresql://127.0.0.1:{wrong.port}/{wrong.database}"


def test_a_connection_that_is_lost_is_worth_another_try(postgres: str) -> None:
    """The holder can't know whether another process held the lock meanwhile."""
    ledger = SqlLedger(postgres)
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    with pytest.raises(ServiceUnavailable, match="the ledger's database does not answer"), ledger.lock("m"):
        execute(postgres, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")  # noqa: S608 - of this file
    with ledger.lock("m"):
        ledger.record(IDENTITY, HELD, RunDetails())
