from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from ml_pipelines.adapters.sql import database as sql_database
from ml_pipelines.adapters.sql.database import Database
from ml_pipelines.adapters.sql.ledger import SqlLedger
from ml_pipelines.adapters.sql.model_lock import model_lock
from ml_pipelines.contracts import Decision, Identity
from ml_pipelines.errors import LedgerError, MissingExtra, ServiceUnavailable
from ml_pipelines.ports import Ledger
from ml_pipelines.ports.ledger_entry import LedgerEntry, RunDetails
from ml_pipelines.testing import FakeLedger


def identity(run_id: str = "monday", pipeline: str = "shop") -> Identity:
    return Identity(pipeline=pipeline, run_id=run_id, task_id="record", run_url="http://airflow/monday")


def decision(outcome: Any = "held", model: str = "m", **fields: Any) -> Decision:
    return Decision(outcome=outcome, model=model, reason="so", **fields)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "new" / "ledger.db"


@pytest.fixture(params=["sqlite", "memory"])
def ledger(request: pytest.FixtureRequest, file: Path) -> Ledger:
    """Each of the two, which must not be told apart."""
    return SqlLedger(f"sqlite:///{file}") if request.param == "sqlite" else FakeLedger()


def test_entries_form_a_chain(ledger: Ledger) -> None:
    first = ledger.record(identity(), decision(metrics={"roc_auc": 0.5, "f1": None}), RunDetails(approver="ada"))
    second = ledger.record(identity("tuesday"), decision("promoted"), RunDetails(version="2"))
    assert (first.seq, second.seq, second.previous_hash) == (1, 2, first.hash)
    assert (first.run_url, first.details, first.previous_hash) == (
        "http://airflow/monday",
        RunDetails(approver="ada"),
        "0" * 64,
    )
    assert first.recorded_at.endswith("+00:00")
    assert ledger.entries("m") == (second, first)
    assert ledger.entry("shop", "monday") == first
    assert ledger.verify("m") == ()
    assert ledger.models() == ("m",)


def test_the_same_run_with_the_same_content_is_found(ledger: Ledger) -> None:
    first = ledger.record(identity(), decision(), RunDetails(version="1"))
    assert ledger.record(identity(), decision(), RunDetails(version="1")) == first
    assert ledger.entries("m") == (first,)


def test_other_content_supersedes_what_the_run_said_before(ledger: Ledger) -> None:
    first = ledger.record(identity(), decision(), RunDetails())
    ledger.record(identity("tuesday"), decision(), RunDetails())
    third = ledger.record(identity(), decision("rejected"), RunDetails())
    assert (third.seq, third.supersedes, first.supersedes) == (3, 1, None)
    assert ledger.entry("shop", "monday") == third
    back = ledger.record(identity(), decision(), RunDetails())
    assert (back.seq, back.supersedes) == (4, 3)


def test_models_have_chains_of_their_own(ledger: Ledger) -> None:
    first = ledger.record(identity(), decision(), RunDetails())
    other = ledger.record(identity(), decision(model="other"), RunDetails())
    assert (first.seq, other.seq, other.supersedes) == (1, 1, None)
    assert ledger.entry("shop", "monday") == other
    assert ledger.models() == ("m", "other")
    assert ledger.entries("nobody's") == ledger.verify("nobody's") == ()
    assert ledger.entry("shop", "never") is None


def test_entries_come_by_pages(ledger: Ledger) -> None:
    for number in range(5):
        ledger.record(identity(f"r{number}"), decision(), RunDetails())
    assert [entry.seq for entry in ledger.entries("m", limit=2)] == [5, 4]
    assert [entry.seq for entry in ledger.entries("m", limit=2, before=4)] == [3, 2]
    assert ledger.entries("m", before=1) == ()


def test_a_turn_can_be_had_again(ledger: Ledger) -> None:
    for _ in range(2):
        with ledger.lock("m"), ledger.lock("other"):
            ledger.record(identity(), decision(), RunDetails())


# --- What is only of a database ---


def altered(file: Path, *statements: str) -> SqlLedger:
    """What somebody makes of the database who may do everything."""
    with closing(sqlite3.connect(file)) as connection, connection:
        for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
        for statement in statements:
            connection.execute(statement)
    return SqlLedger(f"sqlite:///{file}")


@pytest.fixture
def written(file: Path) -> list[LedgerEntry]:
    ledger = SqlLedger(f"sqlite:///{file}")
    return [ledger.record(identity(f"r{number}"), decision(), RunDetails()) for number in range(1, 5)]


@pytest.mark.parametrize("recursive", ["ON", "OFF"])
@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM ml_ledger_entries",
        "UPDATE ml_ledger_entries SET text = '{}'",
        "UPDATE OR REPLACE ml_ledger_entries SET seq = 1",
        # Replaced by its number, and by its primary key.
        "INSERT OR REPLACE INTO ml_ledger_entries VALUES (NULL, 'm', 4, 'p', 'r', '{}', 'x')",
        "REPLACE INTO ml_ledger_entries VALUES (1, 'm', 5, 'p', 'r', '{}', 'x')",
        "INSERT INTO ml_ledger_entries VALUES (NULL, 'm', 4, 'p', 'r', '{}', 'x')"
        " ON CONFLICT (model, seq) DO UPDATE SET text = excluded.text",
        "INSERT INTO ml_ledger_entries VALUES (NULL, 'm', 6, 'p', 'r', '{}', 'x')",
        "INSERT INTO ml_ledger_entries VALUES (NULL, 'm', 0, 'p', 'r', '{}', 'x')",
        "INSERT INTO ml_ledger_entries VALUES (NULL, 'new', 1, 'p', 'r', '{}', 'x')",
        "DELETE FROM ml_ledger_heads",
        "UPDATE ml_ledger_heads SET hash = 'x'",
        "UPDATE ml_ledger_heads SET seq = 3, hash = (SELECT hash FROM ml_ledger_entries WHERE seq = 3)",
        "UPDATE ml_ledger_heads SET seq = 5",
        "UPDATE ml_ledger_heads SET model = 'other'",
        "INSERT OR REPLACE INTO ml_ledger_heads SELECT 'm', 0, printf('%064d', 0)",
        "REPLACE INTO ml_ledger_heads VALUES ('m', 4, 'x')",
        "INSERT INTO ml_ledger_heads VALUES ('new', 1, 'x')",
    ],
)
def test_the_database_refuses_any_change_of_entries_and_heads(
    file: Path, written: list[LedgerEntry], statement: str, recursive: str
) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"PRAGMA recursive_triggers = {recursive}")
        with pytest.raises(sqlite3.IntegrityError, match="keeps every entry as it was written"):
            connection.execute(statement)
    ledger = SqlLedger(f"sqlite:///{file}")
    assert (ledger.verify("m"), ledger.entries("m")) == ((), tuple(reversed(written)))


def test_an_entry_behind_the_head_is_reported(file: Path, written: list[LedgerEntry]) -> None:
    statement = "INSERT INTO ml_ledger_entries VALUES (NULL, 'm', 5, 'p', 'r', '{}', 'x')"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(statement)
    ledger = SqlLedger(f"sqlite:///{file}")
    assert "entry 5 is after entry 4, the last one that the head stores" in ledger.verify("m")


@pytest.mark.parametrize(
    ("statement", "flaw"),
    [
        (
            "UPDATE ml_ledger_entries SET text = replace(text, 'so', 'no') WHERE seq = 2",
            "entry 2 was altered: its text has another hash than the stored one",
        ),
        ("DELETE FROM ml_ledger_entries WHERE seq IN (2, 3)", "entries 2 to 3 are missing"),
        ("DELETE FROM ml_ledger_entries WHERE seq = 4", "entry 4 is missing: the chain is cut off at its end"),
        (
            "UPDATE ml_ledger_entries SET seq = 9 - seq WHERE seq > 1",
            "entries 2 to 4 are missing",
        ),
        ("DELETE FROM ml_ledger_heads", "the head of the chain is missing; entry 4 is the last one found"),
        ("UPDATE ml_ledger_heads SET hash = 'x'", "entry 4 was altered: the head stores another hash of it"),
        (
            "UPDATE ml_ledger_heads SET seq = 3, hash = (SELECT hash FROM ml_ledger_entries WHERE seq = 3)",
            "entry 4 is after entry 3, the last one that the head stores",
        ),
    ],
)
def test_what_somebody_has_done_to_it_is_found(
    file: Path, written: list[LedgerEntry], statement: str, flaw: str
) -> None:
    assert flaw in altered(file, statement).verify("m")


def test_a_model_whose_entries_are_all_gone_is_still_known(file: Path, written: list[LedgerEntry]) -> None:
    emptied = altered(file, "DELETE FROM ml_ledger_entries")
    assert emptied.models() == ("m",)
    assert emptied.verify("m") == ("entries 1 to 4 are missing: the chain is cut off at its end",)


def test_an_entry_that_is_none_is_told(file: Path, written: list[LedgerEntry]) -> None:
    ledger = altered(file, "UPDATE ml_ledger_entries SET text = '[1]' WHERE seq = 4")
    with pytest.raises(LedgerError, match="entry 4 of m can't be read") as caught:
        ledger.entries("m")
    assert (caught.value.where, caught.value.got) == (f"sqlite:///{file}", "[1]")
    assert caught.value.fix.startswith("if `ml-pipelines ledger verify` finds it altered, restore the database")


def test_tables_of_a_newer_version_are_left_alone(file: Path, written: list[LedgerEntry]) -> None:
    ledger = altered(file, "UPDATE ml_ledger_version SET version_num = '0999'")
    with pytest.raises(LedgerError, match="the ledger's tables are newer than this version of the package") as caught:
        ledger.models()
    assert (caught.value.expected, caught.value.got) == ("revision 0001 or earlier", "revision 0999")
    assert caught.value.fix == "install the version of airflow-provider-ml-pipelines that the others use"


def test_the_code_knows_the_last_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(sql_database._MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [sql_database.REVISION]


@pytest.mark.parametrize(
    ("url", "what", "got"),
    [
        ("nonsense", "the address of the ledger is not a database URL", ""),
        ("mysql://me:s3cret@host/db", "a ledger can't be kept there", "mysql"),
        ("sqlite://", "a ledger can't be kept there", "a database in memory"),
    ],
)
def test_an_address_that_is_none(url: str, what: str, got: str) -> None:
    with pytest.raises(LedgerError) as caught:
        SqlLedger(url)
    assert (caught.value.what, caught.value.got) == (what, got)
    assert caught.value.expected == "sqlite:///path/of/a/file, or postgresql://user:password@host:port/database"
    assert "s3cret" not in str(caught.value)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_text("not a database, but long enough to look at" * 40)
    with pytest.raises(LedgerError, match="the file is not a database") as caught:
        SqlLedger(f"sqlite:///{tmp_path}/ledger.db").models()
    assert caught.value.got == "file is not a database"
    assert caught.value.fix == "correct the ledger's address, or restore the database"


def test_a_folder_that_can_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LedgerError, match="the folder of the ledger can't be created") as caught:
        SqlLedger(f"sqlite:///{tmp_path}/file/ledger.db").models()
    assert caught.value.fix.startswith("name another file for the ledger")


def test_a_driver_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise ModuleNotFoundError("No module named 'psycopg2'", name="psycopg2")

    monkeypatch.setattr("sqlalchemy.create_engine", missing)
    with pytest.raises(MissingExtra, match="the driver of the ledger's database is not installed") as caught:
        SqlLedger("postgres://me:s3cret@host/db").models()
    assert (caught.value.where, caught.value.got) == ("postgresql://host/db", "no package 'psycopg2'")
    assert caught.value.fix == 'install it: pip install "airflow-provider-ml-pipelines[postgres]"'


def test_a_server_that_is_not_there_is_worth_another_try() -> None:
    with pytest.raises(ServiceUnavailable, match="the ledger's database does not answer") as caught:
        SqlLedger("postgresql://me:s3cret@127.0.0.1:1/db").models()
    assert caught.value.where == "postgresql://127.0.0.1:1/db"
    assert "s3cret" not in str(caught.value) + repr(caught.value.__cause__)


def test_a_turn_is_waited_for_and_the_wait_has_an_end(
    file: Path, caplog: pytest.LogCaptureFixture, in_thread: Callable[..., threading.Thread]
) -> None:
    database = Database(f"sqlite:///{file}")
    held, done, had = threading.Event(), threading.Event(), threading.Event()

    def hold() -> None:
        with model_lock(database, "m"):
            held.set()
            done.wait()

    def wait() -> None:
        with model_lock(database, "m"):
            had.set()

    in_thread(hold)
    assert held.wait(60)
    with pytest.raises(ServiceUnavailable) as caught, model_lock(database, "m", wait_seconds=0.01):
        pass
    assert caught.value.what == "the model lock of m was not free in time"
    assert caught.value.expected == "the lock within 0.01 s"
    assert caught.value.fix.startswith("find the run that deploys or rolls back the model")
    assert "waiting for the model lock of m" in caplog.text
    in_thread(wait)
    assert not had.is_set()
    done.set()
    assert had.wait(60)


@pytest.fixture
def in_thread() -> Any:
    threads = []

    def start(work: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=work)
        threads.append(thread)
        thread.start()
        return thread

    yield start
    for thread in threads:
        thread.join(60)


def test_a_folder_where_no_turn_can_be_taken(file: Path) -> None:
    ledger = SqlLedger(f"sqlite:///{file}")
    ledger.models()
    os.mkfifo(f"{file}.locks")
    with (
        pytest.raises(LedgerError, match="the file of the model lock can't be used") as caught,
        ledger.lock("m"),
    ):
        pass
    assert caught.value.fix.endswith("give the right to write to its folder")
