from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from ml_pipelines.contracts import Decision, Identity, RuleVerdict
from ml_pipelines.ports.ledger_entry import RunDetails
from ml_pipelines.promotion.history import (
    champion_at,
    hold_rolled_back,
    iter_entries,
    latest_transition,
    rolled_back_models,
)
from ml_pipelines.testing import FakeLedger


@pytest.fixture
def ledger() -> FakeLedger:
    return FakeLedger()


def record(ledger: FakeLedger, outcome: Any, version: str | None = None, **details: Any) -> None:
    """The next run's entry; the file of version N has the sha256 NNN..."""
    versions = {} if version is None else {"version": version, "sha256": version * 64}
    identity = Identity(pipeline="p", run_id=f"run {len(ledger.written)}", task_id="t")
    decision = Decision(outcome=outcome, model="m", reason="complaints")
    ledger.record(identity, decision, RunDetails(**(versions | details)))


def back(ledger: FakeLedger, gone: str, to: str) -> None:
    record(ledger, "rolled_back", to, withdrawn={"version": gone, "sha256": gone * 64})


def test_all_entries_come_by_pages(ledger: FakeLedger) -> None:
    for _ in range(205):
        record(ledger, "rejected")
    assert [entry.seq for entry in iter_entries(ledger, "m")] == list(range(205, 0, -1))


def test_what_served_at_a_moment(ledger: FakeLedger) -> None:
    record(ledger, "promoted", "1")  # at 00:00:00, and each next one a second later
    record(ledger, "rejected")
    record(ledger, "promoted", "2")
    word = latest_transition(ledger, "m")
    assert word is not None
    assert word.details.version == "2"
    actual = [champion_at(ledger, "m", datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC)) for second in (0, 1, 2)]
    assert [entry and entry.details.version for entry in actual] == ["1", "1", "2"]
    assert champion_at(ledger, "m", datetime(2025, 1, 1, tzinfo=UTC)) is None
    assert latest_transition(ledger, "other") is None


def test_what_was_rolled_back_is_withdrawn_until_it_serves_again(ledger: FakeLedger) -> None:
    for number in "123":
        record(ledger, "promoted", number)
    back(ledger, "3", "2")
    back(ledger, "2", "1")
    assert rolled_back_models(ledger, "m") == {
        "2" * 64: "it was rolled back as version 2 on 2026-01-01: complaints",
        "3" * 64: "it was rolled back as version 3 on 2026-01-01: complaints",
    }
    record(ledger, "held")
    record(ledger, "promoted", "4", sha256="3" * 64)  # the same bytes under another number
    assert list(rolled_back_models(ledger, "m")) == ["2" * 64]
    back(ledger, "4", "2")
    assert list(rolled_back_models(ledger, "m")) == ["4" * 64]


def test_a_model_that_was_rolled_back_is_held() -> None:
    promoted = Decision(outcome="promoted", model="m", reason="so", rules=(RuleVerdict(rule="a", passed=True),))
    held = hold_rolled_back(promoted, "it was rolled back")
    assert (held.outcome, held.reason) == ("held", "not rolled back: it was rolled back")
    assert held.rules[1:] == (RuleVerdict(rule="not rolled back", passed=False, detail="it was rolled back"),)
    assert hold_rolled_back(promoted, None) == promoted
    rejected = promoted.model_copy(update={"outcome": "rejected"})
    assert hold_rolled_back(rejected, "it was rolled back") == rejected
