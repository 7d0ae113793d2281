from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console
from tests.step_values import step_values

from ml_pipelines.contracts import Decision, Identity, StepResult
from ml_pipelines.errors import RequestError
from ml_pipelines.ports.ledger_entry import RunDetails
from ml_pipelines.runner.run_summary import run_card
from ml_pipelines.store.artifact_store import ArtifactStore
from ml_pipelines.testing import FakeLedger


def identity(task: str, index: int = -1) -> Identity:
    return Identity(pipeline="shop", run_id="monday", task_id=task, map_index=index)


@pytest.fixture
def ledger() -> FakeLedger:
    return FakeLedger()


@pytest.fixture
def store(tmp_path: Path, ledger: FakeLedger) -> str:
    """A store with a run that stopped early, and whose last step knows a candidate."""
    artifacts = ArtifactStore(str(tmp_path))
    for task, index, step in (("train_model", 0, "train"), ("record_decision", -1, "record_decision")):
        result = StepResult(
            step=step,
            key="a" * 64,
            status="cached",
            reason="",
            values=step_values(step, candidate="tree") if step == "train" else {},
            seconds=1.5,
        )
        artifacts.record(identity(task, index), result)
    decision = Decision(outcome="stopped", model="shop-model", reason="the gate stopped it")
    ledger.record(identity("record_decision"), decision, RunDetails())
    return artifacts.uri


def test_the_card_of_a_run_names_its_mapped_steps_by_candidate(store: str, ledger: FakeLedger) -> None:
    outcome, card = run_card(store, ledger, "shop", "monday", where_next=[("MLflow", "http://mlflow")])
    console = Console(width=120, record=True)
    with console.capture() as captured:
        console.print(card)
    text = captured.get()
    assert outcome == "stopped"
    assert "shop-model: STOPPED" in text
    assert "the gate stopped it" in text
    assert "2 steps, 2 reused from the store" in text
    assert "train[tree] 1.5 s" in text
    assert "record_decision 1.5 s" in text
    assert "http://mlflow" in text


def test_a_run_without_a_decision_is_told_with_those_that_have_one(store: str, ledger: FakeLedger) -> None:
    with pytest.raises(RequestError, match="run 'friday' of pipeline 'shop' has no decision") as caught:
        run_card(store, ledger, "shop", "friday")
    assert (caught.value.where, caught.value.expected) == (store, "one of monday")
    assert caught.value.fix.startswith("name a run that has ended")
    with pytest.raises(RequestError) as caught:
        run_card(store, ledger, "other", "monday")
    assert caught.value.expected == "a run that has ended"
