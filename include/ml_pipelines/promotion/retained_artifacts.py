"""Artifacts of the ledger entries that changed the champion; `store prune` keeps them."""

from __future__ import annotations

from collections.abc import Iterator

from ml_pipelines.contracts import JsonValue
from ml_pipelines.ports import Ledger
from ml_pipelines.promotion.history import iter_entries

__all__ = ["referenced_artifacts"]


def referenced_artifacts(ledger: Ledger) -> set[str]:
    """Return the digests of all artifacts in entries that changed the champion.

    These entries are promotions, rollbacks and external changes. A rollback verifies a version with its training
    record, so that record stays.
    """
    entries = (entry for model in ledger.models() for entry in iter_entries(ledger, model))
    return {
        digest
        for entry in entries
        if entry.details.version
        for digest in _referenced(entry.details.model_dump(mode="json"))
    }


def _referenced(value: JsonValue) -> Iterator[str]:
    if isinstance(value, dict):
        if {"uri", "sha256"} <= value.keys():
            yield str(value["sha256"])
        for item in value.values():
            yield from _referenced(item)
    elif isinstance(value, list):
        for item in value:
            yield from _referenced(item)
