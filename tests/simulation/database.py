"""A simulated database of the ledger: transactions, a row lock on each head, and the model lock of a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.scheduler import Process, Scheduler, Thread

from ml_pipelines.adapters.sql.ledger import SqlLedger
from ml_pipelines.errors import ServiceUnavailable
from ml_pipelines.ports.ledger_entry import LedgerEntry
from ml_pipelines.promotion import hash_chain as chain

__all__ = ["Connection", "Database", "SimulatedLedger", "Tables", "append", "last_entry", "locked_head", "model_lock"]

Condition = Callable[[LedgerEntry], bool]


class Where:
    """A condition of a query."""

    def __init__(self, holds: Condition) -> None:
        self.holds = holds

    def __and__(self, other: Where) -> Where:
        return Where(lambda entry: self.holds(entry) and other.holds(entry))


class Column:
    """A column of the table of entries."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __eq__(self, value: object) -> Where:  # type: ignore[override]
        return Where(lambda entry: getattr(entry, self._name) == value)

    __hash__ = None  # type: ignore[assignment]


class Tables:
    """The columns that the ledger's conditions name."""

    class c:  # noqa: N801  SQLAlchemy's name
        """The columns."""

        model, pipeline, run_id = Column("model"), Column("pipeline"), Column("run_id")


@dataclass(eq=False, slots=True)
class Database:
    """The committed rows, and the locks of open transactions and sessions.

    Attributes:
        scheduler: decides what happens between two statements.
        where: the address, for messages.
        entries: all entries in the order of their commits.
        heads: the head of each chain.
        row_locks: the connection that holds the head of a model.
        model_locks: the process that holds the lock of a model.
    """

    scheduler: Scheduler
    where: str = "simulated"
    entries: list[LedgerEntry] = field(default_factory=list)
    heads: dict[str, chain.ChainHead] = field(default_factory=dict)
    row_locks: dict[str, Connection] = field(default_factory=dict)
    model_locks: dict[str, Thread] = field(default_factory=dict)

    @contextmanager
    def transaction(self, *, write: bool = False) -> Iterator[Connection]:
        """Commit what the block writes, or nothing."""
        scheduler = self.scheduler
        scheduler.pause("begin")
        if scheduler.is_faulty("refused"):
            raise ServiceUnavailable("no connection to the database")
        connection = Connection(self, scheduler.current)
        try:
            yield connection
            scheduler.pause("commit")
            connection.commit()
        finally:
            connection.release()
        if write:
            if scheduler.is_faulty("lost"):
                raise ServiceUnavailable("the answer to a commit was lost")
            scheduler.pause("committed")

    def stored(self, model: str) -> list[chain.StoredEntry]:
        """Return the rows of a model, as `ledger verify` reads them."""
        return [
            chain.StoredEntry(
                model=entry.model, seq=entry.seq, pipeline=entry.pipeline, run_id=entry.run_id,
                text=chain.entry_text(entry), hash=entry.hash,
            )
            for entry in self.entries
            if entry.model == model
        ]  # fmt: skip


class Connection:
    """One transaction. It reads what others have committed, and its own writes."""

    def __init__(self, database: Database, thread: Thread | None) -> None:
        self.database, self.thread = database, thread
        self.written: list[LedgerEntry] = []

    @property
    def is_open(self) -> bool:
        """Whether the server still has the session: a killed process has none."""
        return self.thread is None or (self.thread.process.alive and not self.thread.done)

    def lock_head(self, model: str) -> None:
        """Wait for the row of a head and hold it."""
        locks = self.database.row_locks

        def free() -> bool:
            holder = locks.get(model)
            return holder is None or holder is self or not holder.is_open

        if self.thread is not None:
            self.database.scheduler.wait(free)
        locks[model] = self

    def commit(self) -> None:
        """Make the writes visible, all at once."""
        database = self.database
        for entry in self.written:
            if any((other.model, other.seq) == (entry.model, entry.seq) for other in database.entries):
                raise ServiceUnavailable(f"entry {entry.seq} of {entry.model} exists")
        for entry in self.written:
            database.entries.append(entry)
            database.heads[entry.model] = chain.ChainHead(entry.seq, entry.hash)
        self.written = []

    def release(self) -> None:
        """End the transaction."""
        locks = self.database.row_locks
        for model in [model for model, holder in locks.items() if holder is self]:
            del locks[model]


def locked_head(connection: Connection, model: str) -> chain.ChainHead:
    """Return the end of a chain, as `SELECT ... FOR UPDATE` does."""
    database = connection.database
    database.scheduler.pause("select the head for update")
    connection.lock_head(model)
    return database.heads.get(model, chain.START)


def append(connection: Connection, entry: LedgerEntry) -> None:
    """Insert an entry and update the head, both at the commit."""
    connection.database.scheduler.pause(f"insert entry {entry.seq}")
    connection.written.append(entry)


def last_entry(ledger: SqlLedger, connection: Connection, condition: Where) -> LedgerEntry | None:
    """Return the last entry that fits a condition."""
    database = connection.database
    database.scheduler.pause("select an entry")
    return next((entry for entry in reversed(database.entries) if condition.holds(entry)), None)


class SimulatedLedger(SqlLedger):
    """The real ledger on the simulated database. Only its statements are simulated."""

    def __init__(self, database: Database) -> None:
        self._database: Any = database

    def entries(self, model: str, *, limit: int = 100, before: int | None = None) -> tuple[LedgerEntry, ...]:
        """Return entries of a model, the newest first."""
        with self._database.transaction():
            self._database.scheduler.pause("select entries")
            rows = [entry for entry in self._database.entries if entry.model == model]
        rows = [entry for entry in rows if before is None or entry.seq < before]
        return tuple(sorted(rows, key=lambda entry: -entry.seq)[:limit])

    def models(self) -> tuple[str, ...]:
        """Return the models with a chain."""
        with self._database.transaction():
            return tuple(sorted(self._database.heads))

    def verify(self, model: str) -> tuple[str, ...]:
        """Return the errors of a chain."""
        return tuple(chain.chain_errors(self._database.stored(model), self._database.heads.get(model)))


@contextmanager
def model_lock(database: Database, model: str) -> Iterator[None]:
    """Hold the lock of a model in a session, which ends with its process."""
    scheduler, locks = database.scheduler, database.model_locks
    scheduler.pause(f"lock {model}")
    if scheduler.is_faulty("refused"):
        raise ServiceUnavailable("no connection to the database")
    thread = scheduler.current
    if thread is not None:
        if not scheduler.wait(lambda: _is_free(locks.get(model)), 600.0):
            raise ServiceUnavailable("the model lock was not free in time")
        locks[model] = thread
    try:
        yield
    finally:
        # A killed process sends nothing: the server frees the lock when it finds the session gone.
        if thread is not None and thread.process.alive:
            locks.pop(model, None)
    scheduler.pause(f"unlocked {model}")


def _is_free(holder: Thread | None) -> bool:
    return holder is None or holder.done or not holder.process.alive


def holder_of(database: Database, model: str) -> Process | None:
    """Return the process that holds the lock of a model."""
    holder = database.model_locks.get(model)
    return None if holder is None or _is_free(holder) else holder.process
