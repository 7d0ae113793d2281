"""The ledger: one entry for the decision of every run."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from ml_pipelines.contracts import Decision, Identity
from ml_pipelines.ports.ledger_entry import LedgerEntry, RunDetails

__all__ = ["Ledger"]


class Ledger(Protocol):
    """An append-only chain of entries for each model; see :mod:`ml_pipelines.promotion.hash_chain`.

    Every call may raise ServiceUnavailable if the ledger does not answer. It may raise LedgerError if the ledger is
    damaged, is newer than this version of the package, or refuses access.
    """

    def record(self, identity: Identity, decision: Decision, details: RunDetails) -> LedgerEntry:
        """Append the decision of a run to the model's chain and return the entry.

        The same run with the same content returns the existing entry. With other content it appends an entry that
        supersedes the earlier one.
        """
        ...

    def entry(self, pipeline: str, run_id: str) -> LedgerEntry | None:
        """Return the latest entry of a run; None if it has none."""
        ...

    def entries(self, model: str, *, limit: int = 100, before: int | None = None) -> tuple[LedgerEntry, ...]:
        """Return entries of a model, the newest first, optionally only those with a number below `before`."""
        ...

    def models(self) -> tuple[str, ...]:
        """Return the names of the models that have entries, sorted."""
        ...

    def verify(self, model: str) -> tuple[str, ...]:
        """Return the flaws of a model's chain, one sentence each; empty if it is intact."""
        ...

    def lock(self, model: str) -> AbstractContextManager[None]:
        """Wait for the model lock and hold it. It is released when the process ends, even by a kill.

        The lock is not reentrant.
        """
        ...
