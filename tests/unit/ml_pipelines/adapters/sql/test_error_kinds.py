from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.errorcodes
import psycopg2.errors
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from ml_pipelines._utils.error_kinds import ErrorKind
from ml_pipelines.adapters.sql.database import Database
from ml_pipelines.adapters.sql.error_kinds import kind_of_database_error, sqlstate
from ml_pipelines.adapters.sql.source import _ERRORS, SqlDataSource
from ml_pipelines.errors import LedgerError, PipelineError, ServiceUnavailable, SourceError, TransientError
from ml_pipelines.spec.sources import SqlSource

MISSING, DENIED, READ_ONLY, INVALID = ErrorKind.MISSING, ErrorKind.DENIED, ErrorKind.READ_ONLY, ErrorKind.INVALID
DAMAGED, FULL, UNAVAILABLE = ErrorKind.DAMAGED, ErrorKind.FULL, ErrorKind.UNAVAILABLE
CODES = [
    code
    for name, code in vars(psycopg2.errorcodes).items()
    if re.fullmatch(r"[0-9A-Z]{5}", str(code)) and code != "00000"
]


def error_of(kind: type[Exception], *arguments: Any, **attributes: Any) -> Exception:
    error = kind(*arguments)
    vars(error).update(attributes)
    return error


def postgres_error(code: str) -> Exception:
    # psycopg2 sets the code of its errors itself.
    return error_of(type("OtherError", (Exception,), {}), "so", sqlstate=code)


def sqlite_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("so")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("08006", UNAVAILABLE),
        ("08001", UNAVAILABLE),
        ("22P02", INVALID),
        ("25006", READ_ONLY),
        ("25P03", UNAVAILABLE),
        ("28000", DENIED),
        ("28P01", DENIED),
        ("3D000", MISSING),
        ("40001", UNAVAILABLE),
        ("40P01", UNAVAILABLE),
        ("42501", DENIED),
        ("42601", INVALID),
        ("42703", INVALID),
        ("42P01", MISSING),
        ("53100", FULL),
        ("53300", UNAVAILABLE),
        ("55P03", UNAVAILABLE),
        ("57014", UNAVAILABLE),
        ("57P01", UNAVAILABLE),
        ("57P03", UNAVAILABLE),
        ("58030", UNAVAILABLE),
        ("XX000", UNAVAILABLE),
        ("XX001", DAMAGED),
    ],
)
def test_states(code: str, kind: ErrorKind) -> None:
    assert kind_of_database_error(postgres_error(code)) == kind


@pytest.mark.parametrize("code", CODES)
def test_every_state_of_postgresql_decides_alone(code: str) -> None:
    """Neither the class nor the text of an error changes the meaning of its SQLSTATE."""
    kind = kind_of_database_error(postgres_error(code))
    for name in ("OperationalError", "ProgrammingError", "DatabaseError", "InternalError"):
        for text in ("so", "no such table", "authentication failed", "connection timed out", "disk is full"):
            error = error_of(type(name, (Exception,), {}), text, sqlstate=code)
            assert kind_of_database_error(error) == kind
            assert kind_of_database_error(sa.exc.DBAPIError("select", None, error)) == kind
    transient = {"08", "26", "40", "53", "55", "57", "58", "F0", "XX"}
    final = {"55000", "57P04", "58P01", "XX001", "XX002"}
    expected = (code[:2] in transient and code not in final) or code in {"25P03", "25P04", "HV00N"}
    assert kind.is_transient == expected


def test_psycopg2_names_the_state(tmp_path: Path) -> None:
    error = psycopg2.errors.lookup("42P01")("so")
    assert (sqlstate(error), kind_of_database_error(error)) == ("", INVALID)  # it is only set by the server


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_BUSY, UNAVAILABLE),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, UNAVAILABLE),
        (sqlite3.SQLITE_LOCKED, UNAVAILABLE),
        (sqlite3.SQLITE_IOERR, UNAVAILABLE),
        (sqlite3.SQLITE_IOERR_FSYNC, UNAVAILABLE),
        (sqlite3.SQLITE_NOMEM, UNAVAILABLE),
        (sqlite3.SQLITE_FULL, FULL),
        (sqlite3.SQLITE_CANTOPEN, MISSING),
        (sqlite3.SQLITE_READONLY, READ_ONLY),
        (sqlite3.SQLITE_READONLY_DBMOVED, READ_ONLY),
        (sqlite3.SQLITE_PERM, DENIED),
        (sqlite3.SQLITE_CORRUPT, DAMAGED),
        (sqlite3.SQLITE_NOTADB, DAMAGED),
        (sqlite3.SQLITE_ERROR, INVALID),
        (sqlite3.SQLITE_CONSTRAINT, INVALID),
        (sqlite3.SQLITE_TOOBIG, INVALID),
        (sqlite3.SQLITE_MISUSE, INVALID),
    ],
)
def test_codes_of_sqlite(code: int, kind: ErrorKind) -> None:
    assert kind_of_database_error(sqlite_error(code)) == kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        # As these drivers raise them while they connect, without a SQLSTATE.
        (psycopg2.OperationalError('could not translate host name "db": Temporary failure in name'), UNAVAILABLE),
        (psycopg2.OperationalError("SSL SYSCALL error: EOF detected"), UNAVAILABLE),
        (psycopg2.DatabaseError("SSL SYSCALL error: EOF detected"), UNAVAILABLE),
        (psycopg2.OperationalError("server closed the connection unexpectedly"), UNAVAILABLE),
        (psycopg2.OperationalError("FATAL:  the database system is starting up"), UNAVAILABLE),
        (psycopg2.OperationalError("FATAL:  sorry, too many clients already"), UNAVAILABLE),
        (psycopg2.OperationalError("ein Text, den niemand kennt"), UNAVAILABLE),
        (psycopg2.InterfaceError("connection already closed"), UNAVAILABLE),
        (psycopg2.DatabaseError("error with status PGRES_TUPLES_OK and no message from the libpq"), UNAVAILABLE),
        (psycopg2.OperationalError('FATAL:  password authentication failed for user "me"'), DENIED),
        (psycopg2.OperationalError('FATAL:  no pg_hba.conf entry for host "10.0.0.1"'), DENIED),
        (psycopg2.OperationalError("fe_sendauth: no password supplied"), DENIED),
        (psycopg2.OperationalError('FATAL:  role "me" does not exist'), DENIED),
        (psycopg2.OperationalError('FATAL:  database "shop" does not exist'), MISSING),
        (psycopg2.OperationalError('invalid port number: "99999"'), INVALID),
        (psycopg2.OperationalError("SSL error: certificate verify failed"), INVALID),
        (psycopg2.OperationalError("server does not support SSL, but SSL was required"), INVALID),
        (psycopg2.ProgrammingError('invalid dsn: invalid connection option "foo"'), INVALID),
        (psycopg2.IntegrityError("connection timed out"), INVALID),
        (sqlite3.OperationalError("Could not decode to UTF-8 column 'x'"), INVALID),
        (error_of(type("OperationalError", (Exception,), {}), 2003, "Can't connect to MySQL server"), UNAVAILABLE),
        (error_of(type("OperationalError", (Exception,), {}), 1045, "Access denied for user 'me'"), DENIED),
        (error_of(type("InternalError", (Exception,), {}), 1205, "Lock wait timeout exceeded"), UNAVAILABLE),
        (error_of(type("ProgrammingError", (Exception,), {}), 1146, "Table 'a.b' doesn't exist"), MISSING),
        (error_of(type("OperationalError", (Exception,), {}), "08S01", "[08S01] Communication link"), UNAVAILABLE),
        (error_of(type("Error", (Exception,), {}), "28000", "[28000] Login failed"), DENIED),
        (error_of(type("DatabaseError", (Exception,), {}), {"C": "57P01", "M": "so"}), UNAVAILABLE),
        (ConnectionResetError("so"), UNAVAILABLE),
        (sa.exc.ResourceClosedError("so"), INVALID),
    ],
)
def test_errors_without_a_state(error: Exception, kind: ErrorKind) -> None:
    assert kind_of_database_error(error) == kind
    assert kind_of_database_error(sa.exc.DBAPIError("select", None, error)) == kind


def test_errors_that_sqlite_raises(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database, but long enough to be one" * 99)

    def kind_of(statement: str, file: str = ":memory:") -> ErrorKind:
        with closing(sqlite3.connect(file)) as connection, pytest.raises(sqlite3.Error) as caught:
            connection.execute(statement).fetchall()
        return kind_of_database_error(caught.value)

    assert kind_of("select * from nowhere") == MISSING
    assert kind_of("selec 1") == INVALID
    assert kind_of("select cast(x'ff' as text)") == INVALID
    assert kind_of("select * from sqlite_schema", str(tmp_path / "text.db")) == DAMAGED
    with pytest.raises(sqlite3.OperationalError) as caught:
        sqlite3.connect(tmp_path / "none" / "a.db")
    assert kind_of_database_error(caught.value) == MISSING


def test_a_host_without_a_name_is_transient_for_source_and_ledger(tmp_path: Path) -> None:
    url = "postgresql://me:hunter2@no-such-host.invalid:5432/shop"
    source = SqlDataSource(SqlSource(query="select 1", url=url), {})
    with pytest.raises(ServiceUnavailable) as of_source:
        source.fetch(source.pin(), str(tmp_path))
    with pytest.raises(ServiceUnavailable) as of_ledger, Database(url).transaction():
        pass
    assert "hunter2" not in f"{of_source.value}{of_ledger.value}"


@pytest.mark.parametrize("kind", list(ErrorKind))
def test_source_and_ledger_agree_on_what_is_transient(kind: ErrorKind, tmp_path: Path) -> None:
    codes = {FULL: 13, UNAVAILABLE: 10, MISSING: 14, DENIED: 3, READ_ONLY: 8, INVALID: 1, DAMAGED: 11}
    error: PipelineError = Database(f"sqlite:///{tmp_path}/a.db").error(sqlite_error(codes[kind]))
    assert isinstance(error, TransientError) == kind.is_transient == issubclass(_ERRORS[kind][0], TransientError)
    assert isinstance(error, LedgerError) != issubclass(_ERRORS[kind][0], TransientError)
    assert issubclass(_ERRORS[kind][0], SourceError | TransientError)


@given(st.text(max_size=80), st.sampled_from(["OperationalError", "DatabaseError", "DataError", "OtherError"]))
def test_every_text_has_a_kind(text: str, name: str) -> None:
    kind = kind_of_database_error(type(name, (Exception,), {})(text))
    assert name in ("OperationalError", "DatabaseError") or not kind.is_transient or "full" in text
