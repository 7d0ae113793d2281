"""Apply another gate to past runs: the evidence in the ledger gets a new decision."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ml_pipelines.contracts import Decision, Outcome
from ml_pipelines.errors import RequestError
from ml_pipelines.ports import Ledger
from ml_pipelines.ports.ledger_entry import LedgerEntry
from ml_pipelines.promotion.gate import apply_gate
from ml_pipelines.promotion.history import ROLLED_BACK_RULE, hold_rolled_back, iter_entries
from ml_pipelines.spec.gate import Gate
from ml_pipelines.spec.loader import load_spec
from ml_pipelines.spec.metric_table import get_metric

__all__ = ["ReplayedDecision", "backtest", "load_gate"]


@dataclass(frozen=True, slots=True)
class ReplayedDecision:
    """One past decision under other rules.

    Attributes:
        entry: entry of the ledger.
        was: outcome of the gate at that time, before the approval and the option `promote`.
        now: decision of the other gate on the same evidence.
    """

    entry: LedgerEntry
    was: Outcome
    now: Decision

    @property
    def flips(self) -> bool:
        """Whether the outcome differs."""
        return self.was != self.now.outcome


def load_gate(file: str, ledger: Ledger, model: str) -> Gate:
    """Load the gate of a file: a whole declaration, or the section `gate` alone.

    Raises:
        SpecError: the file has mistakes; with the line and the fix of each.
        RequestError: the ledger has no decision on the model with metrics.
    """
    metric = next((entry.decision.metric for entry in iter_entries(ledger, model) if entry.decision.metric), None)
    if metric is None:
        raise RequestError(
            f"the ledger has no decision on {model!r} with metrics",
            expected=f"a model with such a decision: {', '.join(ledger.models()) or 'none yet'}",
            got=model,
            fix="name a model by its name in the registry; ML_PIPELINES_LEDGER names another ledger",
        )
    task = get_metric(metric).task
    # Required sections of a declaration beside the gate; they are not used here.
    others = {
        "model": {"name": model, "task": task},
        "data": {"file": {"path": "-.csv"}, "key": "key", "target": "target"},
    }
    return load_spec(file, sections=others).gate


def backtest(ledger: Ledger, model: str, gate: Gate) -> Iterator[ReplayedDecision]:
    """Yield the past decisions with metrics, the newest first; only the last one of each run."""
    superseded: set[int] = set()
    for entry in iter_entries(ledger, model):
        if entry.supersedes is not None:
            superseded.add(entry.supersedes)
        if entry.seq not in superseded and entry.decision.metrics:
            yield ReplayedDecision(entry, _gate_outcome(entry), _decide_again(entry.decision, gate))


def _gate_outcome(entry: LedgerEntry) -> Outcome:
    decision = entry.decision
    if decision.outcome == "promoted" and any(not rule.passed for rule in decision.rules):
        return "held"  # approved by a person
    if decision.outcome in ("held", "rejected") and all(rule.passed for rule in decision.rules):
        return "promoted"  # the option promote of the run was hold or never
    return decision.outcome


def _decide_again(decision: Decision, gate: Gate) -> Decision:
    now = apply_gate(decision, gate, same_as_champion=decision.outcome == "no_change")
    held = next((rule.detail for rule in decision.rules if rule.rule == ROLLED_BACK_RULE and not rule.passed), None)
    return hold_rolled_back(now, held)
