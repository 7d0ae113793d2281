"""The ledger's database: SQLite or PostgreSQL, its tables made on first use, its errors as this package's."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc as sa_errors

from ml_pipelines._utils.error_kinds import ErrorKind, kind_of_error
from ml_pipelines.adapters.declared_address import redact
from ml_pipelines.adapters.sql.database_url import URL_FIX, parse_database_url, show_database_url
from ml_pipelines.adapters.sql.error_kinds import kind_of_database_error
from ml_pipelines.errors import LedgerError, MissingExtra, PipelineError, ServiceUnavailable

__all__ = ["REVISION", "Database", "file_error", "lock_number"]

REVISION = "0001"  # of the tables that this version of the package works with
_VERSION_TABLE = "ml_ledger_version"
_MIGRATIONS = Path(__file__).with_name("migrations")
_CONNECT_SECONDS = 15
_BUSY_SECONDS = 60  # a write takes milliseconds; many may be in line on a busy machine

_UNAVAILABLE = "see that it is up, has space left and can be reached from this machine, then try again"
_DENIED = (
    LedgerError,
    "the ledger's database refuses access",
    "give a user and a password that may write to it, or the right to write to its file and folder",
)
_ERRORS: dict[ErrorKind, tuple[type[PipelineError], str, str]] = {
    ErrorKind.MISSING: (
        LedgerError,
        "the ledger's database does not exist",
        "correct the ledger's address, or restore the database",
    ),
    ErrorKind.DENIED: _DENIED,
    ErrorKind.READ_ONLY: _DENIED,
    ErrorKind.INVALID: (
        LedgerError,
        "the ledger's database does not accept a statement",
        "correct what the message names",
    ),
    ErrorKind.DAMAGED: (
        LedgerError,
        "the file is not a database, or the ledger's database is damaged",
        "correct the ledger's address, or restore the database",
    ),
    ErrorKind.FULL: (ServiceUnavailable, "the ledger's database has no space left", "free space, then try again"),
    ErrorKind.UNAVAILABLE: (ServiceUnavailable, "the ledger's database does not answer", _UNAVAILABLE),
}


class Database:
    """Where a ledger is.

    Args:
        url: `sqlite:///path` or `postgresql://user:password@host:port/database`.
    """

    def __init__(self, url: str) -> None:
        self.url = _parsed(url)
        self._address = url
        self.backend = self.url.get_backend_name()
        self.where = show_database_url(self.url)
        self._engine: sa.Engine | None = None

    @contextmanager
    def transaction(self, *, write: bool = False) -> Iterator[sa.Connection]:
        """Open a transaction that sees one state of the database. With `write` it excludes other writers on SQLite.

        Raises:
            ServiceUnavailable: the database does not answer.
            LedgerError: it is damaged, newer than this version of the package, or refuses access.
        """
        with self._translated():
            if self._engine is None:
                engine = self._new_engine()
                self._migrate(engine)
                self._engine = engine
            options: dict[str, Any] = {"write": write}
            if self.backend == "postgresql" and not write:
                options["isolation_level"] = "REPEATABLE READ"
            with self._engine.execution_options(**options).begin() as connection:
                yield connection

    @contextmanager
    def session(self) -> Iterator[sa.Connection]:
        """A connection of its own without any transaction, for a lock that lives as long as it does."""
        with self._translated():
            engine = self._new_engine()
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                yield connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sa_errors.DBAPIError as exc:
            # A traceback would print the cause as it is, with credentials.
            raise self.error(exc) from None

    def error(self, exc: sa_errors.DBAPIError | sqlite3.Error) -> PipelineError:
        """Return the error of this package for an error of the database; its text has no credentials."""
        kind, what, fix = _ERRORS[kind_of_database_error(exc)]
        message = redact(" ".join(str(getattr(exc, "orig", exc)).split()), self._address)
        return kind(what, where=self.where, got=message, fix=fix)

    def _new_engine(self) -> sa.Engine:
        arguments: dict[str, Any] = {"connect_timeout": _CONNECT_SECONDS}
        if self.backend == "sqlite":
            arguments = {"timeout": _BUSY_SECONDS}
            _make_folder(Path(str(self.url.database)), self.where)
        try:
            engine = sa.create_engine(self.url, poolclass=sa.NullPool, connect_args=arguments)
        except ModuleNotFoundError as exc:
            raise MissingExtra(
                "the driver of the ledger's database is not installed",
                where=self.where,
                got=f"no package {exc.name!r}",
                fix='install it: pip install "airflow-provider-ml-pipelines[postgres]"',
            ) from exc
        if self.backend == "sqlite":
            # The driver would begin a transaction only at the first write, after what that rests on has been read.
            sa.event.listen(engine, "connect", _leave_transactions_to_us)
            sa.event.listen(engine, "begin", _begin)
        return engine

    def _migrate(self, engine: sa.Engine) -> None:
        """Bring the tables to this version. A second process that starts at the same time waits for the first."""
        with engine.begin() as connection:
            revision = _revision(connection)
        if revision == REVISION:
            return
        with engine.execution_options(write=True).begin() as connection:
            if self.backend == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock_number("ml_pipelines migrations"))))
            revision = _revision(connection)
            if revision is not None and revision > REVISION:
                raise LedgerError(
                    "the ledger's tables are newer than this version of the package",
                    where=self.where,
                    expected=f"revision {REVISION} or earlier",
                    got=f"revision {revision}",
                    fix="install the version of airflow-provider-ml-pipelines that the others use",
                )
            if revision != REVISION:
                _upgrade(connection)


def _parsed(url: str) -> sa.URL:
    expected = "sqlite:///path/of/a/file, or postgresql://user:password@host:port/database"
    parsed = parse_database_url(url)
    if parsed is None:
        raise LedgerError("the address of the ledger is not a database URL", expected=expected, fix=URL_FIX)
    kept = parsed.database and parsed.database != ":memory:"
    if parsed.get_backend_name() == "postgresql" or (parsed.get_backend_name() == "sqlite" and kept):
        return parsed
    raise LedgerError(
        "a ledger can't be kept there",
        where=show_database_url(parsed),
        expected=expected,
        got=parsed.drivername if parsed.get_backend_name() != "sqlite" else "a database in memory",
        fix="name another database",
    )


def _make_folder(file: Path, where: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise file_error("the folder of the ledger can't be created", exc, where) from exc


def file_error(what: str, exc: OSError, where: str) -> PipelineError:
    """Return the error of this package for a file or folder of the ledger."""
    if (kind := kind_of_error(exc)) and kind.is_transient:
        return ServiceUnavailable(what, where=where, got=str(exc), fix=_UNAVAILABLE)
    fix = "name another file for the ledger, or give the right to write to its folder"
    return LedgerError(what, where=where, got=str(exc), fix=fix)


def _leave_transactions_to_us(connection: Any, record: Any) -> None:
    connection.isolation_level = None


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("write") else "BEGIN")


def _revision(connection: sa.Connection) -> str | None:
    """What the tables are at, None if there are none."""
    if not sa.inspect(connection).has_table(_VERSION_TABLE):
        return None
    return connection.execute(sa.text(f"SELECT version_num FROM {_VERSION_TABLE}")).scalar()  # noqa: S608 - a constant


def _upgrade(connection: sa.Connection) -> None:
    # Not imported where the tables are as they should be.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes |= {"connection": connection, "version_table": _VERSION_TABLE}
    command.upgrade(config, "head")


def lock_number(name: str) -> int:
    """The number of PostgreSQL's advisory lock for a name, 64 bits with a sign."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
