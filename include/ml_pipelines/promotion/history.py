"""What a model's ledger tells of its past: what served when, what was rolled back, and whether the registry agrees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from ml_pipelines.contracts import Decision, JsonValue, LedgerEntry, RuleVerdict
from ml_pipelines.ports import Ledger, ModelVersion, Registry

__all__ = [
    "ROLLED_BACK_RULE",
    "ExternalChange",
    "champion_at",
    "find_external_change",
    "hold_rolled_back",
    "iter_entries",
    "latest_transition",
    "rolled_back_models",
]

ROLLED_BACK_RULE = "not rolled back"  # the rule by which a model that was rolled back is held

# Outcomes after which another version serves; the entry's details tell which, as `version` and `sha256`.
CHANGES = ("promoted", "rolled_back", "external_change")


@dataclass(frozen=True, slots=True)
class ExternalChange:
    """The alias `champion` is not where the ledger's last word says.

    Attributes:
        word: the entry with that word.
        champion: what the alias points to instead; None if there is no such alias any more.
    """

    word: LedgerEntry
    champion: ModelVersion | None

    @property
    def sentence(self) -> str:
        """What has happened, for people."""
        now = f"to version {self.champion.version}" if self.champion else "away"
        return f"the alias champion was moved outside, from version {self.word.details.version} {now}"


def iter_entries(ledger: Ledger, model: str) -> Iterator[LedgerEntry]:
    """All entries of a model, the newest first; no more than a page is in memory at once."""
    before: int | None = None
    while page := ledger.entries(model, before=before):
        yield from page
        before = page[-1].seq


def latest_transition(ledger: Ledger, model: str) -> LedgerEntry | None:
    """The newest entry that tells which version serves, None if there is none."""
    return next((entry for entry in iter_entries(ledger, model) if entry.decision.outcome in CHANGES), None)


def champion_at(ledger: Ledger, model: str, moment: datetime) -> LedgerEntry | None:
    """The entry that tells which version served at a moment, None if nothing did that the ledger knows of."""
    changes = (entry for entry in iter_entries(ledger, model) if entry.decision.outcome in CHANGES)
    return next((entry for entry in changes if datetime.fromisoformat(entry.recorded_at) <= moment), None)


def find_external_change(registry: Registry, ledger: Ledger, model: str) -> ExternalChange | None:
    """Whether somebody else has moved the alias `champion` since the ledger's last word.

    What a run has moved that has not come to its own entry yet was not moved by somebody else.
    """
    word = latest_transition(ledger, model)
    if word is None:
        return None
    champion = registry.by_alias(model, "champion")
    if (champion.version if champion else None) == word.details.version:
        return None
    if champion is not None and _is_on_its_way(ledger, champion.tags):
        return None
    return ExternalChange(word, champion)


def _is_on_its_way(ledger: Ledger, tags: Mapping[str, str]) -> bool:
    pipeline, run_id = tags.get("ml_pipelines.pipeline"), tags.get("ml_pipelines.run_id")
    return pipeline is not None and run_id is not None and ledger.entry(pipeline, run_id) is None


def rolled_back_models(ledger: Ledger, model: str) -> dict[str, JsonValue]:
    """Why a model was rolled back, by the sha256 of its file; those are left out that have come to serve again since.

    A file and not a version counts: the same data, code and parameters give the same bytes under another number.
    """
    last: dict[str, str | None] = {}
    for entry in iter_entries(ledger, model):
        if entry.decision.outcome not in CHANGES:
            continue
        last.setdefault(str(entry.details.sha256), None)
        if withdrawn := entry.details.withdrawn:
            reason = f"it was rolled back as version {withdrawn.version} on {entry.recorded_at[:10]}: "
            last.setdefault(str(withdrawn.sha256), f"{reason}{entry.decision.reason}")
    return {digest: why for digest, why in sorted(last.items()) if why is not None}


def hold_rolled_back(decision: Decision, why: str | None) -> Decision:
    """A decision on a model that was rolled back: a person is asked before it serves again.

    Args:
        decision: what the gate says.
        why: why the model was rolled back; None if it was not.
    """
    if why is None or decision.outcome != "promoted":
        return decision
    rule = RuleVerdict(rule=ROLLED_BACK_RULE, passed=False, detail=why)
    told = {"outcome": "held", "reason": f"{rule.rule}: {why}", "rules": (*decision.rules, rule)}
    return decision.model_copy(update=told)
