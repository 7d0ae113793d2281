"""The ledger's database: SQLite or PostgreSQL, its tables made on first use, its errors as this package's."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc as sa_errors

from ml_pipelines.adapters.addresses import redact
from ml_pipelines.errors import LedgerError, MissingExtra, PipelineError, ServiceUnavailable

__all__ = ["REVISION", "Database", "lock_number", "sqlstate"]

REVISION = "0001"  # of the tables that this version of the package works with
_VERSION_TABLE = "ml_ledger_version"
_MIGRATIONS = Path(__file__).with_name("migrations")
_CONNECT_SECONDS = 15
_BUSY_SECONDS = 60  # a write takes milliseconds; many may be in line on a busy machine

# What databases say: their SQLSTATE, or the message if they give none. The first that fits counts.
_FAULTS: tuple[tuple[str, type[PipelineError], str, str], ...] = (
    (
        r"^(28|42501)|authentication failed|access denied|permission denied|no password supplied|role .*not exist"
        r"|readonly database|read-only",
        LedgerError,
        "the ledger's database refuses access",
        "give a user and a password that may write to it, or the right to write to its file and folder",
    ),
    (
        r"^3D000|database .*does not exist|unable to open database file|file is not a database|malformed",
        LedgerError,
        "the ledger's database is not there or is none",
        "correct the ledger's address, or restore the database",
    ),
    (
        r"^(08|53|57|25P0[34]|40|55P03)|timeout|timed out|connect|closed|database is locked|disk is full|disk I/O",
        ServiceUnavailable,
        "the ledger's database does not answer",
        "see that it is up, has room and can be reached from this machine, then try again",
    ),
)


class Database:
    """Where a ledger is.

    Args:
        url: `sqlite:///path` or `postgresql://user:password@host:port/database`.
    """

    def __init__(self, url: str) -> None:
        self.url = _parsed(url)
        self.backend = self.url.get_backend_name()
        self.where = _shown(self.url)
        self._engine: sa.Engine | None = None

    @contextmanager
    def transaction(self, *, write: bool = False) -> Iterator[sa.Connection]:
        """A transaction that sees one state of the database; with `write` on SQLite, nobody else writes meanwhile.

        Raises:
            ServiceUnavailable: the database does not answer.
            LedgerError: it is damaged, newer than this version of the package, or refuses access.
        """
        with self._told():
            if self._engine is None:
                engine = self._made()
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
        with self._told():
            engine = self._made()
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                yield connection

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sa_errors.DBAPIError as exc:
            # The text of the cause is told without credentials; a traceback would print the cause as it is.
            raise self._fault(exc) from None

    def _fault(self, exc: sa_errors.DBAPIError) -> PipelineError:
        state = sqlstate(exc)
        message = redact(" ".join(str(exc.orig).split()))
        for pattern, kind, what, fix in _FAULTS:
            if re.search(pattern, state or message, re.IGNORECASE):
                return kind(what, where=self.where, got=message, fix=fix)
        return LedgerError(
            "the ledger's database does not accept a statement", where=self.where, got=message, fix="mend what it names"
        )

    def _made(self) -> sa.Engine:
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
    try:
        # Other tools say postgres, and the driver that Airflow brings is psycopg2; SQLAlchemy's default is another one.
        parsed = sa.make_url(re.sub(r"^postgres(?:ql)?(?=:)", "postgresql+psycopg2", url))
    except (sa_errors.ArgumentError, ValueError):
        parsed = None
    if parsed is None:
        raise LedgerError(
            "the address of the ledger is not a database URL",
            expected=expected,
            fix="correct it; special characters of a password are written %40 for @, %2F for / and so on",
        )
    kept = parsed.database and parsed.database != ":memory:"
    if parsed.get_backend_name() == "postgresql" or (parsed.get_backend_name() == "sqlite" and kept):
        return parsed
    raise LedgerError(
        "a ledger can't be kept there",
        where=_shown(parsed),
        expected=expected,
        got=parsed.drivername if parsed.get_backend_name() != "sqlite" else "a database in memory",
        fix="name another database",
    )


def _shown(url: sa.URL) -> str:
    host = (url.host or "") + (f":{url.port}" if url.port else "")
    return f"{url.get_backend_name()}://{host}/{url.database or ''}"


def _make_folder(file: Path, where: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise LedgerError(
            "the folder of the ledger can't be made", where=where, got=str(exc), fix="name another file for the ledger"
        ) from exc


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


def sqlstate(exc: sa_errors.DBAPIError) -> str:
    """The SQLSTATE of an error, empty if there is none."""
    return getattr(exc.orig, "sqlstate", None) or getattr(exc.orig, "pgcode", None) or ""


def lock_number(name: str) -> int:
    """The number of PostgreSQL's advisory lock for a name, 64 bits with a sign."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
