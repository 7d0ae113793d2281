"""What the ledger of a test has."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from ml_pipelines.adapters.sql import ledger as sql_ledger
from ml_pipelines.adapters.sql.ledger import SqlLedger
from ml_pipelines.contracts import Decision, Identity
from ml_pipelines.ports.ledger_entry import LedgerEntry, RunDetails
from ml_pipelines.promotion import hash_chain as chain


def entries_of(url: str) -> list[LedgerEntry]:
    """All entries of all models, the newest of each model first; every chain is intact."""
    ledger = SqlLedger(url)
    models = ledger.models()
    assert {model: ledger.verify(model) for model in models} == dict.fromkeys(models, ())
    return [entry for model in models for entry in ledger.entries(model, limit=10_000)]


def fill(url: str, output: Iterable[tuple[Identity, Decision, RunDetails]]) -> None:
    """Write entries to an empty ledger as `record` would, all in one transaction."""
    assert SqlLedger(url).models() == ()
    heads: dict[str, chain.ChainHead] = {}
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        for identity, decision, details in output:
            after = heads.get(decision.model) or sql_ledger._locked_head(connection, decision.model)
            moment = "2026-11-01T00:00:00.000+00:00"
            entry = chain.next_entry(identity, decision, details, after=after, supersedes=None, recorded_at=moment)
            sql_ledger._append(connection, entry)
            heads[entry.model] = chain.ChainHead(entry.seq, entry.hash)
        connection.execute(sa.text("ANALYZE"))
