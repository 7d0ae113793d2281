from __future__ import annotations

from typing import Any

import pytest

from ml_pipelines.contracts import Decision, Identity
from ml_pipelines.ports import TrackedModel
from ml_pipelines.ports.ledger_entry import RunDetails
from ml_pipelines.promotion import transitions
from ml_pipelines.promotion.history import rolled_back_models
from ml_pipelines.testing import FakeServices

MODEL = "churn"
OPERATOR = Identity(pipeline="operator", run_id="now", task_id="change")


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> FakeServices:
    """Version 2 serves and is recorded; version 1 is the previous one."""
    monkeypatch.setattr(transitions, "recorded_version", lambda *_: None)
    monkeypatch.setattr(transitions, "verify_version", lambda *_: None)
    services = FakeServices()
    for number in ("1", "2"):
        identity = Identity(pipeline=MODEL, run_id=f"run {number}", task_id="register")
        artifact = services.put(number.encode(), kind="model")
        services.registry.register(MODEL, TrackedModel(f"r{number}", f"models:/m-{number}"), artifact, identity, {})
        details = RunDetails(version=number, sha256=artifact.sha256)
        services.ledger.record(identity, Decision(outcome="promoted", model=MODEL, reason="so"), details)
    services.registry.set_alias(MODEL, "2", "champion")
    return services


def move_and_record_from_outside(services: FakeServices, number: str) -> None:
    """An interrupted try has moved the alias, and another run has recorded that as an external change."""
    services.registry.set_alias(MODEL, number, "champion")
    assert transitions.record_external_change(services, MODEL) is not None


def select(number: str) -> Any:
    return lambda registry: transitions.version_by_number(registry, MODEL, number)


def test_a_rollback_completes_a_try_that_was_recorded_as_an_external_change(services: Any) -> None:
    move_and_record_from_outside(services, "1")
    first, again = (
        transitions.roll_back(services, MODEL, select("1"), reason="worse", identity=OPERATOR) for _ in range(2)
    )
    assert (first.decision.outcome, first.details.version, first.details.withdrawn.version) == ("rolled_back", "1", "2")
    assert again == first
    withdrawn = services.registry.by_version(MODEL, "2").artifact.sha256
    assert [*rolled_back_models(services.ledger, MODEL)] == [withdrawn]


def test_a_promotion_completes_a_try_that_was_recorded_as_an_external_change(services: Any) -> None:
    move_and_record_from_outside(services, "1")
    first, again = (
        transitions.promote(services, MODEL, select("1"), reason="better", identity=OPERATOR) for _ in range(2)
    )
    assert (first.decision.outcome, first.details.version) == ("promoted", "1")
    assert again == first
