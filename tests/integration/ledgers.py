"""What the ledger of a test has."""

from __future__ import annotations

from ml_pipelines.adapters.sql_ledger import SqlLedger
from ml_pipelines.contracts import LedgerEntry


def entries_of(url: str) -> list[LedgerEntry]:
    """All entries of all models, the newest of each model first; every chain is whole."""
    ledger = SqlLedger(url)
    models = ledger.models()
    assert {model: ledger.verify(model) for model in models} == dict.fromkeys(models, ())
    return [entry for model in models for entry in ledger.entries(model, limit=10_000)]
