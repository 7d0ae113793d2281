"""One at a time may change which version of a model serves: a lock in the database, which ends with its holder.

PostgreSQL frees it when the holder's connection ends, SQLite (a small file for each model, beside the ledger) when its
process does; nobody has to judge whether a holder is dead.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import sqlalchemy as sa

from ml_pipelines.adapters.sql.database import Database, lock_number, sqlstate
from ml_pipelines.errors import LedgerError, ServiceUnavailable

__all__ = ["WAIT_SECONDS", "model_lock"]

log = logging.getLogger(__name__)

WAIT_SECONDS = 600.0  # who is in line for longer is told so, and may try again

# A host that has lost its power says no good-bye: the server asks after half a minute, and again three times.
_KEEPALIVE = "SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3"


@contextmanager
def model_lock(database: Database, model: str, *, wait_seconds: float = WAIT_SECONDS) -> Iterator[None]:
    """Wait until nobody else has the model's turn, then have it.

    Raises:
        ServiceUnavailable: somebody else has had it for `wait_seconds`, or the database does not answer.
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
            _tell_waiting(model)
            connection.exec_driver_sql(f"SET lock_timeout = {round(wait_seconds * 1000)}")
            try:
                connection.execute(sa.select(sa.func.pg_advisory_lock(number)))
            except sa.exc.OperationalError as exc:
                if sqlstate(exc) != "55P03":
                    raise
                raise _waited(model, database.where, wait_seconds) from None
        yield
        # If the connection was lost meanwhile, somebody else may have had the turn: this fails, and all is tried again.
        connection.execute(sa.select(sa.func.pg_advisory_unlock(number)))


@contextmanager
def _sqlite(database: Database, model: str, wait_seconds: float) -> Iterator[None]:
    ledger = Path(str(database.url.database))
    folder = ledger.with_name(f"{ledger.name}.locks")
    file = folder / f"{hashlib.sha256(model.encode()).hexdigest()[:32]}.db"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as connection:
            if not _begun(connection):
                _tell_waiting(model)
                connection.execute(f"PRAGMA busy_timeout = {round(wait_seconds * 1000)}")
                if not _begun(connection):
                    raise _waited(model, database.where, wait_seconds)
            yield
    except (OSError, sqlite3.Error) as exc:
        raise LedgerError(
            "the file that lets runs take turns can't be used",
            where=str(file),
            got=str(exc),
            fix="give the right to write to the ledger's folder",
        ) from exc


def _begun(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as exc:
        if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY:
            raise
        return False
    return True


def _tell_waiting(model: str) -> None:
    log.warning("somebody else is changing which version of %s serves: waiting", model)


def _waited(model: str, where: str, seconds: float) -> ServiceUnavailable:
    return ServiceUnavailable(
        f"somebody else has been changing which version of {model} serves",
        where=where,
        expected=f"the model's turn within {seconds:g} s",
        got="a process that still has it",
        fix="look which run deploys or rolls back the model; try again when it has ended",
    )
