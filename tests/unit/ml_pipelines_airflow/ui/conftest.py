"""The web application over ports in memory, as a user who may read some DAGs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from airflow.api_fastapi.core_api.security import get_user
from fastapi.testclient import TestClient

from ml_pipelines.contracts import ArtifactRef, Decision, Identity, Interval, LedgerEntry, RuleVerdict, RunDetails
from ml_pipelines.ports import TrackedModel
from ml_pipelines.testing import FakeServices
from ml_pipelines_airflow.ui import app as ui

REPORT = b"<!DOCTYPE html><title>the secret report</title>"


class World:
    """What the pages show, and who looks."""

    def __init__(self) -> None:
        self.services = FakeServices()
        self.readable = {"churn_dag"}
        self.app = ui.create_app()
        self.app.dependency_overrides |= {ui.services: lambda: self.services, get_user: lambda: "somebody"}

    def record(
        self, run_id: str, outcome: Any = "promoted", *, dag: str = "churn_dag", model: str = "churn", **details: Any
    ) -> LedgerEntry:
        """What became of a run, with a report."""
        decision = Decision(
            outcome=outcome,
            model=model,
            candidate="linear",
            candidate_index=0,
            reason=f"the reason of {run_id}",
            metric="roc_auc",
            metrics={"roc_auc": 0.91},
            champion_metrics={"roc_auc": 0.89},
            rules=(RuleVerdict(rule="threshold roc_auc", passed=True, value=0.91, limit=0.8, detail="good enough"),),
            intervals={"roc_auc": Interval(low=0.88, high=0.94, confidence=0.95)},
            champion_intervals={"roc_auc": Interval(low=0.86, high=0.92, confidence=0.95)},
        )
        ref = self.services.put(REPORT, kind="html")
        told = RunDetails(**{"report": ref, **details})
        return self.services.ledger.record(Identity(pipeline=dag, run_id=run_id, task_id="t"), decision, told)

    def serve(self, alias: str, *, dag: str = "churn_dag", model: str = "churn") -> str:
        """Register a version and point an alias at it."""
        registry = self.services.registry
        uri = f"models:/{alias}-{dag}"
        artifact = ArtifactRef(uri="memory://m", sha256="0" * 64, bytes=1, kind="model")
        made = registry.register(
            model, TrackedModel("r", uri), artifact, Identity(pipeline=dag, run_id="r", task_id="t"), {}
        )
        registry.set_alias(model, made.version, alias)
        return made.version


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()

    class AuthManager:
        def get_authorized_dag_ids(self, *, user: Any, method: str) -> set[str]:
            assert (user, method) == ("somebody", "GET")
            return made.readable

    monkeypatch.setattr(ui, "get_auth_manager", AuthManager)
    # Importing it takes seconds, and these pages ask a registry in memory.
    monkeypatch.setattr(ui, "import_object", lambda name: None)
    return made


@pytest.fixture
def client(world: World) -> Iterator[TestClient]:
    with TestClient(world.app, root_path="/ml-models", raise_server_exceptions=True) as made:
        yield made
