from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from ml_pipelines.contracts import ArtifactRef, StepResult
from ml_pipelines.errors import RequestError
from ml_pipelines_airflow.assets import drift_asset
from ml_pipelines_airflow.tasks.drift import drift_headline, request_training

REPORT = ArtifactRef(uri="memory://report", sha256="a" * 64, bytes=1, kind="html")
RETRAIN = {"on": "features", "cooldown": 7 * 86400.0}


class AliasEvents:
    """The events of an asset alias."""

    def __init__(self) -> None:
        self.added: list[tuple[Any, dict[str, Any]]] = []

    def add(self, asset: Any, *, extra: dict[str, Any]) -> None:
        self.added.append((asset, extra))


def measured(**values: Any) -> list[dict[str, Any]]:
    values = {"features": True, "predictions": False, "reason": "1 of 5 features have drifted"} | values
    result = StepResult(
        step="measure_drift", key="0" * 64, status="computed", reason="", outputs={"report": REPORT}, values=values
    )
    return [result.model_dump(mode="json")]


def request(
    xcoms: list[dict[str, Any]], retrain: dict[str, Any] | None = RETRAIN, earlier: tuple[datetime, ...] = ()
) -> tuple[str, list[Any]]:
    alias = AliasEvents()
    ti = SimpleNamespace(
        dag_id="watch",
        run_id="monday",
        task=SimpleNamespace(outlets=["alias"]),
        xcom_pull=lambda task_ids, key: xcoms,
    )
    events = {drift_asset("churn"): [SimpleNamespace(timestamp=timestamp) for timestamp in earlier]}
    message = request_training(
        model="churn", retrain=retrain, ti=ti, inlet_events=events, outlet_events={"alias": alias}
    )
    return message, alias.added


def test_request_training_adds_an_event_with_the_measured_values() -> None:
    message, ((asset, extra),) = request(measured())
    assert "1 of 5 features have drifted" in message
    assert asset == drift_asset("churn")
    assert (extra["pipeline"], extra["run_id"], extra["model"], extra["features"]) == ("watch", "monday", "churn", True)
    assert extra["report"] == REPORT.model_dump(mode="json")


@pytest.mark.parametrize(
    ("on", "values", "requested"),
    [
        ("features", {}, True),
        ("predictions", {}, False),
        ("any", {}, True),
        ("features", {"features": False, "predictions": True}, False),
        ("predictions", {"features": False, "predictions": True}, True),
        ("any", {"features": False, "predictions": True}, True),
        ("any", {"features": False}, False),
    ],
)
def test_request_training_counts_the_declared_kind_of_drift(on: str, values: dict[str, Any], requested: bool) -> None:
    _, events = request(measured(**values), RETRAIN | {"on": on})
    assert bool(events) is requested


def test_request_training_waits_for_the_cooldown() -> None:
    now = datetime.now(UTC)
    old, recent = now - timedelta(days=8), now - timedelta(days=6, hours=23)
    message, events = request(measured(), earlier=(recent, old))
    assert events == []
    assert f"{recent:%Y-%m-%d %H:%M} UTC, within 7 days, 0:00:00" in message
    assert request(measured(), earlier=(old,))[1] != []


def test_request_training_without_retrain_requests_nothing() -> None:
    message, events = request(measured(), None)
    assert events == []
    assert "retrain" in message


def test_request_training_without_a_measurement_raises() -> None:
    with pytest.raises(RequestError, match="measure_drift has no result"):
        request([])


@pytest.mark.parametrize(("drifted", "good"), [(True, False), (False, None)])
def test_drift_headline_is_that_of_the_last_task(drifted: bool, good: bool | None) -> None:
    task = SimpleNamespace(op_kwargs={"model": "churn"})
    ti = SimpleNamespace(task_id="request_training", xcom_pull=lambda task_ids, key: measured(features=drifted))
    headline = drift_headline({"ti": ti, "task": task})
    assert headline is not None
    assert headline.text.startswith("churn: ")
    assert headline.good is good
    ti.task_id = "measure_drift"
    assert drift_headline({"ti": ti, "task": task}) is None
