"""What became of every run, in a table of SQLite or PostgreSQL that only grows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime

import sqlalchemy as sa

from ml_pipelines.adapters.sql.database import Database
from ml_pipelines.adapters.sql.model_lock import model_lock
from ml_pipelines.contracts import Decision, Identity
from ml_pipelines.errors import LedgerError
from ml_pipelines.ports.ledger_entry import LedgerEntry, RunDetails
from ml_pipelines.promotion import hash_chain as chain

__all__ = ["SqlLedger"]

_CHUNK = 500

_ENTRIES = sa.table(
    "ml_ledger_entries", *(sa.column(name) for name in ("id", "model", "seq", "pipeline", "run_id", "text", "hash"))
)
_HEADS = sa.table("ml_ledger_heads", *(sa.column(name) for name in ("model", "seq", "hash")))
# Without the condition, SQLite's triggers would refuse the insert before it becomes a conflict.
_FIRST_HEAD = sa.text(
    "INSERT INTO ml_ledger_heads (model, seq, hash) SELECT :model, 0, :hash"
    " WHERE NOT EXISTS (SELECT 1 FROM ml_ledger_heads WHERE model = :model) ON CONFLICT DO NOTHING"
)
# From each model to the next by the index, as DISTINCT would not: it reads every entry.
_MODELS = sa.text(
    "WITH RECURSIVE found (model) AS ("
    "SELECT min(model) FROM ml_ledger_entries UNION ALL "
    "SELECT (SELECT min(later.model) FROM ml_ledger_entries later WHERE later.model > found.model) FROM found "
    "WHERE found.model IS NOT NULL"
    ") SELECT model FROM found WHERE model IS NOT NULL UNION SELECT model FROM ml_ledger_heads"
)


class SqlLedger:
    """The ledger in a database. The protocol :class:`ml_pipelines.ports.Ledger` lists the errors of each call.

    Args:
        url: see :class:`ml_pipelines.adapters.sql.database.Database`.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)

    @property
    def where(self) -> str:
        """The address of the database without credentials, for display."""
        return self._database.where

    def record(self, identity: Identity, decision: Decision, details: RunDetails) -> LedgerEntry:
        """Write what became of a run, unless it is written down already."""
        with self._database.transaction(write=True) as connection:
            head = _locked_head(connection, decision.model)
            earlier = self._last(connection, _of_run(identity) & (_ENTRIES.c.model == decision.model))
            if earlier is not None and chain.is_same_record(earlier, decision, details):
                return earlier
            entry = chain.next_entry(
                identity,
                decision,
                details,
                after=head,
                supersedes=earlier.seq if earlier else None,
                recorded_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            )
            _append(connection, entry)
        return entry

    def entry(self, pipeline: str, run_id: str) -> LedgerEntry | None:
        """What was recorded last for a run, None if nothing was."""
        of_run = _of_run(Identity(pipeline=pipeline, run_id=run_id, task_id=""))
        with self._database.transaction() as connection:
            return self._last(connection, of_run)

    def entries(self, model: str, *, limit: int = 100, before: int | None = None) -> tuple[LedgerEntry, ...]:
        """Entries of a model, the newest first."""
        query = sa.select(_ENTRIES.c.seq, _ENTRIES.c.text, _ENTRIES.c.hash).where(_ENTRIES.c.model == model)
        if before is not None:
            query = query.where(_ENTRIES.c.seq < before)
        with self._database.transaction() as connection:
            rows = connection.execute(query.order_by(_ENTRIES.c.seq.desc()).limit(limit)).all()
        return tuple(self._read(model, *row) for row in rows)

    def models(self) -> tuple[str, ...]:
        """The models that have entries, or had, by name."""
        with self._database.transaction() as connection:
            return tuple(sorted(connection.execute(_MODELS).scalars()))

    def verify(self, model: str) -> tuple[str, ...]:
        """What is wrong with a model's chain, as sentences."""
        with self._database.transaction() as connection:
            row = connection.execute(sa.select(_HEADS.c.seq, _HEADS.c.hash).where(_HEADS.c.model == model)).first()
            return tuple(chain.chain_errors(_stored(connection, model), chain.ChainHead(*row) if row else None))

    def lock(self, model: str) -> AbstractContextManager[None]:
        """Hold the lock of a model; see :func:`ml_pipelines.adapters.sql.model_lock.model_lock`."""
        return model_lock(self._database, model)

    def _last(self, connection: sa.Connection, condition: sa.ColumnElement[bool]) -> LedgerEntry | None:
        columns = (_ENTRIES.c.model, _ENTRIES.c.seq, _ENTRIES.c.text, _ENTRIES.c.hash)
        row = connection.execute(sa.select(*columns).where(condition).order_by(_ENTRIES.c.id.desc()).limit(1)).first()
        return None if row is None else self._read(*row)

    def _read(self, model: str, seq: int, text: str, digest: str) -> LedgerEntry:
        try:
            return chain.parse_entry(text, digest)
        except ValueError as exc:
            raise LedgerError(
                f"entry {seq} of {model} can't be read",
                where=self.where,
                expected="an entry as this version of the package writes it",
                got=text[:100],
                fix="if `ml-pipelines ledger verify` finds it altered, restore the database; else update the package",
            ) from exc


def _of_run(identity: Identity) -> sa.ColumnElement[bool]:
    return (_ENTRIES.c.pipeline == identity.pipeline) & (_ENTRIES.c.run_id == identity.run_id)


def _locked_head(connection: sa.Connection, model: str) -> chain.ChainHead:
    """Return the head of a model's hash chain, locked until the transaction ends."""
    connection.execute(_FIRST_HEAD, {"model": model, "hash": chain.START.hash})
    query = sa.select(_HEADS.c.seq, _HEADS.c.hash).where(_HEADS.c.model == model)
    return chain.ChainHead(*connection.execute(query.with_for_update()).one())


def _append(connection: sa.Connection, entry: LedgerEntry) -> None:
    connection.execute(
        sa.insert(_ENTRIES).values(
            model=entry.model,
            seq=entry.seq,
            pipeline=entry.pipeline,
            run_id=entry.run_id,
            text=chain.entry_text(entry),
            hash=entry.hash,
        )
    )
    connection.execute(sa.update(_HEADS).where(_HEADS.c.model == entry.model).values(seq=entry.seq, hash=entry.hash))


def _stored(connection: sa.Connection, model: str) -> Iterator[chain.StoredEntry]:
    columns = [_ENTRIES.c[name] for name in ("model", "seq", "pipeline", "run_id", "text", "hash")]
    query = sa.select(*columns).where(_ENTRIES.c.model == model).order_by(_ENTRIES.c.seq)
    for row in connection.execution_options(yield_per=_CHUNK).execute(query):
        yield chain.StoredEntry(**row._mapping)
