"""The web application with services in memory, and a user who may read one DAG."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from airflow.api_fastapi.core_api.security import get_user
from fastapi.testclient import TestClient

from ml_pipelines.contracts import ArtifactRef, Decision, Finding, Identity, Interval, RuleVerdict
from ml_pipelines.ports import TrackedModel
from ml_pipelines.ports.ledger_entry import LedgerEntry, RunDetails
from ml_pipelines.testing import FakeServices
from ml_pipelines_airflow.ui import app as ui

REPORT = b"<!DOCTYPE html><title>hidden report</title>"


class Site:
    """The application with its services and the DAGs that the user may read."""

    def __init__(self) -> None:
        self.services = FakeServices()
        self.readable = {"churn_dag"}
        self.app = ui.create_app()
        self.app.dependency_overrides |= {ui.services: lambda: self.services, get_user: lambda: "somebody"}

    def record(
        self,
        run_id: str,
        outcome: Any = "promoted",
        *,
        dag: str = "churn_dag",
        model: str = "churn",
        findings: tuple[Finding, ...] = (),
        threshold: float | None = None,
        **details: Any,
    ) -> LedgerEntry:
        """Record the decision of a run with a report."""
        decision = Decision(
            outcome=outcome,
            model=model,
            candidate="linear",
            candidate_index=0,
            findings=findings,
            threshold=threshold,
            reason=f"the reason of {run_id}",
            metric="roc_auc",
            metrics={"roc_auc": 0.91},
            champion_metrics={"roc_auc": 0.89},
            rules=(RuleVerdict(rule="threshold roc_auc", passed=True, value=0.91, limit=0.8, detail="good enough"),),
            intervals={"roc_auc": Interval(low=0.88, high=0.94, confidence=0.95)},
            champion_intervals={"roc_auc": Interval(low=0.86, high=0.92, confidence=0.95)},
        )
        ref = self.services.put(REPORT, kind="html")
        stored = RunDetails(**{"report": ref, **details})
        return self.services.ledger.record(Identity(pipeline=dag, run_id=run_id, task_id="t"), decision, stored)

    def deploy(
        self, alias: str, *, dag: str = "churn_dag", model: str = "churn", tags: dict[str, str] | None = None
    ) -> str:
        """Register a version and set an alias on it."""
        registry = self.services.registry
        uri = f"models:/{alias}-{dag}"
        artifact = ArtifactRef(uri="memory://m", sha256="0" * 64, bytes=1, kind="model")
        version = registry.register(
            model, TrackedModel("r", uri), artifact, Identity(pipeline=dag, run_id="r", task_id="t"), tags or {}
        )
        registry.set_alias(model, version.version, alias)
        return version.version


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    site = Site()

    class AuthManager:
        def get_authorized_dag_ids(self, *, user: Any, method: str) -> set[str]:
            assert (user, method) == ("somebody", "GET")
            return site.readable

    monkeypatch.setattr(ui, "get_auth_manager", AuthManager)
    # The import of MLflow takes seconds, and the registry of these tests is in memory.
    monkeypatch.setattr(ui, "import_object", lambda name: None)
    return site


@pytest.fixture
def client(site: Site) -> Iterator[TestClient]:
    with TestClient(site.app, root_path="/ml-models", raise_server_exceptions=True) as client:
        yield client
