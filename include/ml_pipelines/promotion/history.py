"""History of a model in the ledger: transitions, rolled-back models, and changes of the registry from outside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from ml_pipelines.contracts import Decision, JsonValue, RuleVerdict
from ml_pipelines.ports import Ledger, ModelVersion, Registry
from ml_pipelines.ports.ledger_entry import LedgerEntry

__all__ = [
    "ROLLED_BACK_RULE",
    "ExternalChange",
    "champion_at",
    "find_external_change",
    "hold_rolled_back",
    "is_in_progress",
    "is_transition",
    "iter_entries",
    "latest_transition",
    "rolled_back_models",
]

ROLLED_BACK_RULE = "not rolled back"  # name of the rule that holds a rolled-back model

# Outcomes that change the champion; the details of the entry have its `version` and `sha256`.
TRANSITIONS = ("promoted", "rolled_back", "external_change")


@dataclass(frozen=True, slots=True)
class ExternalChange:
    """The alias `champion` points to another version than the latest transition in the ledger.

    Attributes:
        entry: the latest transition.
        champion: version behind the alias; None if the alias was removed.
    """

    entry: LedgerEntry
    champion: ModelVersion | None

    @property
    def sentence(self) -> str:
        """The change as a sentence."""
        target = f"version {self.champion.version}" if self.champion else "no version"
        return f"the alias champion was changed externally, from version {self.entry.details.version} to {target}"


def iter_entries(ledger: Ledger, model: str) -> Iterator[LedgerEntry]:
    """Yield all entries of a model, the newest first, with one page in memory."""
    before: int | None = None
    while page := ledger.entries(model, before=before):
        yield from page
        before = page[-1].seq


def is_transition(entry: LedgerEntry) -> bool:
    """Return whether an entry changed the champion. A promotion that was replaced before its entry did not."""
    return entry.decision.outcome in TRANSITIONS and entry.details.replaced_by is None


def latest_transition(ledger: Ledger, model: str) -> LedgerEntry | None:
    """Return the newest entry that changed the champion; None without one."""
    return next((entry for entry in iter_entries(ledger, model) if is_transition(entry)), None)


def champion_at(ledger: Ledger, model: str, moment: datetime) -> LedgerEntry | None:
    """Return the entry of the champion at a moment; None if the ledger has no earlier transition."""
    changes = (entry for entry in iter_entries(ledger, model) if is_transition(entry))
    return next((entry for entry in changes if datetime.fromisoformat(entry.recorded_at) <= moment), None)


def find_external_change(registry: Registry, ledger: Ledger, model: str) -> ExternalChange | None:
    """Return the change of the alias `champion` from outside; None if registry and ledger agree.

    A champion of a run that has no entry yet is no external change: the run records it later.
    """
    entry = latest_transition(ledger, model)
    if entry is None:
        return None
    champion = registry.by_alias(model, "champion")
    if (champion.version if champion else None) == entry.details.version:
        return None
    if champion is not None and is_in_progress(ledger, champion.tags):
        return None
    return ExternalChange(entry, champion)


def is_in_progress(ledger: Ledger, tags: Mapping[str, str]) -> bool:
    """Return whether the run that the tags of a version name has no ledger entry yet."""
    pipeline, run_id = tags.get("ml_pipelines.pipeline"), tags.get("ml_pipelines.run_id")
    return pipeline is not None and run_id is not None and ledger.entry(pipeline, run_id) is None


def rolled_back_models(ledger: Ledger, model: str) -> dict[str, JsonValue]:
    """Return the reasons for rollbacks by the sha256 of the model file, without models that were promoted again.

    The file identifies the model: a new training on the same data gives the same bytes under another version.
    """
    last: dict[str, str | None] = {}
    for entry in iter_entries(ledger, model):
        if not is_transition(entry):
            continue
        last.setdefault(str(entry.details.sha256), None)
        if withdrawn := entry.details.withdrawn:
            reason = f"it was rolled back as version {withdrawn.version} on {entry.recorded_at[:10]}: "
            last.setdefault(str(withdrawn.sha256), f"{reason}{entry.decision.reason}")
    return {digest: reason for digest, reason in sorted(last.items()) if reason is not None}


def hold_rolled_back(decision: Decision, reason: str | None) -> Decision:
    """Return the decision on a model that was rolled back: held for approval instead of promoted.

    Args:
        decision: the decision of the gate.
        reason: reason for the rollback of the model; None if it was never rolled back.
    """
    if reason is None or decision.outcome != "promoted":
        return decision
    rule = RuleVerdict(rule=ROLLED_BACK_RULE, passed=False, detail=reason)
    changes = {"outcome": "held", "reason": f"{rule.rule}: {reason}", "rules": (*decision.rules, rule)}
    return decision.model_copy(update=changes)
