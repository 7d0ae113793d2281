"""What became of every run, for good."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from ml_pipelines.contracts import Decision, Identity, LedgerEntry, RunDetails

__all__ = ["Ledger"]


class Ledger(Protocol):
    """Entries of each model in a chain that only grows; see :mod:`ml_pipelines.promotion.hash_chain`.

    Every call may raise ServiceUnavailable: the ledger does not answer; and LedgerError: it is damaged, newer than
    this version of the package, or refuses access.
    """

    def record(self, identity: Identity, decision: Decision, details: RunDetails) -> LedgerEntry:
        """Write what became of a run to the end of the model's chain.

        The same run with the same content finds the entry that is there; with other content it gets a new one, which
        supersedes the earlier.
        """
        ...

    def entry(self, pipeline: str, run_id: str) -> LedgerEntry | None:
        """What was recorded last for a run, None if nothing was."""
        ...

    def entries(self, model: str, *, limit: int = 100, before: int | None = None) -> tuple[LedgerEntry, ...]:
        """Entries of a model, the newest first; those below number `before`, if that is given."""
        ...

    def models(self) -> tuple[str, ...]:
        """The models that have entries, by name."""
        ...

    def verify(self, model: str) -> tuple[str, ...]:
        """What is wrong with a model's chain, as sentences; empty if nothing is."""
        ...

    def lock(self, model: str) -> AbstractContextManager[None]:
        """Wait until nobody else has the model's turn, then have it. It ends with the process, however that ends.

        Who has it must not ask for it again.
        """
        ...
