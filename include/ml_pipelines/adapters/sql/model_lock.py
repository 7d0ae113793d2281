"""The model lock: only its holder may move the aliases of a model. It ends with the holder's process.

PostgreSQL has an advisory lock, which ends with the connection. SQLite has a file for each model beside the ledger,
whose lock ends with the process. So a lock never needs a timeout to expire.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import sqlalchemy as sa

from ml_pipelines.adapters.sql.database import Database, file_error, lock_number
from ml_pipelines.adapters.sql.error_kinds import sqlstate
from ml_pipelines.errors import ServiceUnavailable

__all__ = ["WAIT_SECONDS", "model_lock"]

log = logging.getLogger(__name__)

WAIT_SECONDS = 600.0  # then the waiting process gives up; a retry waits again

# A host without power closes no connection: the server finds out by keepalives within a minute.
_KEEPALIVE = "SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3"


@contextmanager
def model_lock(database: Database, model: str, *, wait_seconds: float = WAIT_SECONDS) -> Iterator[None]:
    """Hold the lock of a model within the block; wait for it first.

    Raises:
        ServiceUnavailable: another process held it for `wait_seconds`, or the database does not answer.
        LedgerError: the database refuses access.
    """
    hold = _postgresql if database.backend == "postgresql" else _sqlite
    with hold(database, model, wait_seconds):
        yield


@contextmanager
def _postgresql(database: Database, model: str, wait_seconds: float) -> Iterator[None]:
    number = lock_number(f"ml_pipelines model lock {model}")
    with database.session() as connection:
        connection.exec_driver_sql(_KEEPALIVE)
        if not connection.execute(sa.select(sa.func.pg_try_advisory_lock(number))).scalar():
            _log_waiting(model)
            connection.exec_driver_sql(f"SET lock_timeout = {round(wait_seconds * 1000)}")
            try:
                connection.execute(sa.select(sa.func.pg_advisory_lock(number)))
            except sa.exc.OperationalError as exc:
                if sqlstate(exc) != "55P03":
                    raise
                raise _lock_timeout(model, database.where, wait_seconds) from None
        yield
        # Fails if the connection was lost, since another process may have held the lock: the step is tried again.
        connection.execute(sa.select(sa.func.pg_advisory_unlock(number)))


@contextmanager
def _sqlite(database: Database, model: str, wait_seconds: float) -> Iterator[None]:
    ledger = Path(str(database.url.database))
    file = ledger.with_name(f"{ledger.name}.locks") / f"{hashlib.sha256(model.encode()).hexdigest()[:32]}.db"
    with _opened(database, file) as connection:
        try:
            _wait_for_lock(connection, database, model, wait_seconds)
        except sqlite3.Error as exc:
            raise database.error(exc) from exc
        yield


@contextmanager
def _opened(database: Database, file: Path) -> Iterator[sqlite3.Connection]:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(file, timeout=0, isolation_level=None)
    except OSError as exc:
        raise file_error("the file of the model lock can't be used", exc, str(file)) from exc
    except sqlite3.Error as exc:
        raise database.error(exc) from exc
    # Not in the block above: an error of the code that holds the lock is not an error of the lock.
    with closing(connection):
        yield connection


def _wait_for_lock(connection: sqlite3.Connection, database: Database, model: str, wait_seconds: float) -> None:
    if _try_begin(connection):
        return
    _log_waiting(model)
    connection.execute(f"PRAGMA busy_timeout = {round(wait_seconds * 1000)}")
    if not _try_begin(connection):
        raise _lock_timeout(model, database.where, wait_seconds)


def _try_begin(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as exc:
        if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY:
            raise
        return False
    return True


def _log_waiting(model: str) -> None:
    log.warning("waiting for the model lock of %s, which another run holds", model)


def _lock_timeout(model: str, where: str, seconds: float) -> ServiceUnavailable:
    return ServiceUnavailable(
        f"the model lock of {model} was not free in time",
        where=where,
        expected=f"the lock within {seconds:g} s",
        got="another process holds it",
        fix="find the run that deploys or rolls back the model, and try again after its end",
    )
