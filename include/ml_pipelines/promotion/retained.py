"""The artifacts that the ledger refers to."""

from __future__ import annotations

from collections.abc import Iterator

from ml_pipelines.contracts import JsonValue
from ml_pipelines.ports import Ledger
from ml_pipelines.promotion.history import iter_entries

__all__ = ["referenced_artifacts"]


def referenced_artifacts(ledger: Ledger) -> set[str]:
    """The digests of what the ledger refers to of each change of the champion: reports, evaluations, training records.

    A promoted version stays explained for good, and its training record is what a rollback verifies it with.
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
        for each in value.values():
            yield from _referenced(each)
    elif isinstance(value, list):
        for each in value:
            yield from _referenced(each)
