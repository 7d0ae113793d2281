"""What would have become of past runs under other rules: the evidence in the ledger, judged again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ml_pipelines.contracts import Decision, LedgerEntry, Outcome
from ml_pipelines.errors import RequestError
from ml_pipelines.ports import Ledger
from ml_pipelines.promotion.gate import apply_gate
from ml_pipelines.promotion.history import ROLLED_BACK_RULE, hold_rolled_back, iter_entries
from ml_pipelines.spec.loader import load_spec
from ml_pipelines.spec.metrics import get_metric
from ml_pipelines.spec.training import Gate

__all__ = ["ReplayedDecision", "backtest", "load_gate"]


@dataclass(frozen=True, slots=True)
class ReplayedDecision:
    """One past decision under other rules.

    Attributes:
        entry: the ledger's.
        was: what the gate of that time said, whatever the person who ran it or who was asked wanted.
        now: the same evidence, judged by the other gate.
    """

    entry: LedgerEntry
    was: Outcome
    now: Decision

    @property
    def flips(self) -> bool:
        """Does the other gate say something else?"""
        return self.was != self.now.outcome


def load_gate(file: str, ledger: Ledger, model: str) -> Gate:
    """The gate that a file declares: a whole declaration, or the section `gate` alone.

    Raises:
        SpecError: with every mistake of the file, its line, and how to mend it.
        RequestError: the ledger has no decision on the model that rests on metrics.
    """
    metric = next((entry.decision.metric for entry in iter_entries(ledger, model) if entry.decision.metric), None)
    if metric is None:
        raise RequestError(
            f"the ledger has no decision on {model!r} that could be judged again",
            expected=f"a model that has one: {', '.join(ledger.models()) or 'none yet'}",
            got=model,
            fix="name a model by its name in the registry; ML_PIPELINES_LEDGER names another ledger",
        )
    task = get_metric(metric).task
    # What a declaration needs beside its gate; none of it is looked at here.
    others = {
        "model": {"name": model, "task": task},
        "data": {"file": {"path": "-.csv"}, "key": "key", "target": "target"},
    }
    return load_spec(file, sections=others).gate


def backtest(ledger: Ledger, model: str, gate: Gate) -> Iterator[ReplayedDecision]:
    """Past decisions that rest on metrics, the newest first; of a run that was decided twice the last one."""
    superseded: set[int] = set()
    for entry in iter_entries(ledger, model):
        if entry.supersedes is not None:
            superseded.add(entry.supersedes)
        if entry.seq not in superseded and entry.decision.metrics:
            yield ReplayedDecision(entry, _said(entry), _judged(entry.decision, gate))


def _said(entry: LedgerEntry) -> Outcome:
    decision = entry.decision
    if decision.outcome == "promoted" and any(not rule.passed for rule in decision.rules):
        return "held"  # and a person approved
    if decision.outcome in ("held", "rejected") and all(rule.passed for rule in decision.rules):
        return "promoted"  # but the run was told to ask or not to promote
    return decision.outcome


def _judged(decision: Decision, gate: Gate) -> Decision:
    now = apply_gate(decision, gate, same_as_champion=decision.outcome == "no_change")
    held = next((rule.detail for rule in decision.rules if rule.rule == ROLLED_BACK_RULE and not rule.passed), None)
    return hold_rolled_back(now, held)
