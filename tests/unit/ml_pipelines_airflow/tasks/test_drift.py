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


class Alias:
    """What `outlet_events` gives for an alias."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, dict[str, Any]]] = []

    def add(self, asset: Any, *, extra: dict[str, Any]) -> None:
        self.told.append((asset, extra))


def measured(**values: Any) -> list[dict[str, Any]]:
    values = {"features": True, "predictions": False, "reason": "1 of 5 features have drifted"} | values
    result = StepResult(
        step="measure_drift", key="0" * 64, status="computed", reason="", outputs={"report": REPORT}, values=values
    )
    return [result.model_dump(mode="json")]


def call(
    found: list[dict[str, Any]], retrain: dict[str, Any] | None = RETRAIN, calls: tuple[datetime, ...] = ()
) -> tuple[str, list[Any]]:
    alias = Alias()
    ti = SimpleNamespace(
        dag_id="watch",
        run_id="monday",
        task=SimpleNamespace(outlets=["alias"]),
        xcom_pull=lambda task_ids, key: found,
    )
    events = {drift_asset("churn"): [SimpleNamespace(timestamp=each) for each in calls]}
    said = request_training(model="churn", retrain=retrain, ti=ti, inlet_events=events, outlet_events={"alias": alias})
    return said, alias.told


def test_drift_calls_for_a_training_with_what_was_measured() -> None:
    said, ((asset, extra),) = call(measured())
    assert said == "called for a training: 1 of 5 features have drifted"
    assert asset == drift_asset("churn")
    assert (extra["pipeline"], extra["run_id"], extra["model"], extra["features"]) == ("watch", "monday", "churn", True)
    assert extra["report"] == REPORT.model_dump(mode="json")


@pytest.mark.parametrize(
    ("on", "values", "called"),
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
def test_the_policy_says_what_counts(on: str, values: dict[str, Any], called: bool) -> None:
    _, told = call(measured(**values), RETRAIN | {"on": on})
    assert bool(told) is called


def test_within_the_cool_down_nothing_is_called_for_and_after_it_again() -> None:
    now = datetime.now(UTC)
    old, recent = now - timedelta(days=8), now - timedelta(days=6, hours=23)
    said, told = call(measured(), calls=(recent, old))
    assert told == []
    assert said == f"no training is called for: one was at {recent:%Y-%m-%d %H:%M} UTC, within 7 days, 0:00:00"
    assert call(measured(), calls=(old,))[1] != []


def test_without_a_policy_drift_is_only_told() -> None:
    said, told = call(measured(), None)
    assert told == []
    assert said == "no training is called for, as retrain is not declared: 1 of 5 features have drifted"


def test_nothing_measured_is_no_call() -> None:
    with pytest.raises(RequestError, match="measure_drift has no result"):
        call([])


def test_the_headline_tells_drift_once_it_is_known() -> None:
    task = SimpleNamespace(op_kwargs={"model": "churn"})
    ti = SimpleNamespace(task_id="request_training", xcom_pull=lambda task_ids, key: measured())
    headline = drift_headline({"ti": ti, "task": task})
    assert headline is not None
    assert (headline.text, headline.good) == ("churn: its batches have drifted", False)
    ti.task_id = "measure_drift"
    assert drift_headline({"ti": ti, "task": task}) is None
