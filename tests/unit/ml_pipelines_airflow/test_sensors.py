from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ml_pipelines.contracts import ArtifactRef, Identity
from ml_pipelines.ports import TrackedModel
from ml_pipelines.testing import FakeRegistry
from ml_pipelines_airflow import sensors
from ml_pipelines_airflow.sensors import ModelAliasSensor

ARTIFACT = ArtifactRef(uri="file:///m", sha256="0" * 64, bytes=1, kind="model")
IDENTITY = Identity(pipeline="churn", run_id="r", task_id="register")


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> FakeRegistry:
    registry = FakeRegistry()
    for number in range(2):
        registry.register("churn", TrackedModel("run", f"models:/m-{number}"), ARTIFACT, IDENTITY, {})
    monkeypatch.setattr(sensors, "airflow_settings", lambda connection: connection)
    monkeypatch.setattr(sensors, "ConnectedServices", lambda connection: SimpleNamespace(registry=registry))
    return registry


def poke(**options: Any) -> tuple[bool, Any]:
    value = ModelAliasSensor(task_id="wait", model="churn", **options).poke({})
    return value.is_done, value.xcom_value


def test_sensor_waits_for_the_alias(registry: FakeRegistry) -> None:
    assert poke() == (False, None)
    registry.set_alias("churn", "2", "champion")
    assert poke() == (True, {"model": "churn", "alias": "champion", "version": "2"})
    assert poke(alias="challenger") == (False, None)


@pytest.mark.parametrize(("version", "done"), [("1", False), (1, False), ("2", True), (2, True)])
def test_sensor_waits_for_a_version(registry: FakeRegistry, version: str | int, done: bool) -> None:
    registry.set_alias("churn", "2", "champion")
    assert poke(version=version)[0] is done


def test_sensor_continues_after_an_outage_of_the_registry(
    registry: FakeRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.down = True
    assert poke() == (False, None)
    assert "the registry does not answer" in capsys.readouterr().out


def test_sensor_reschedules_by_default() -> None:
    sensor = ModelAliasSensor(task_id="wait", model="churn")
    assert sensor.mode == "reschedule"
    assert ModelAliasSensor(task_id="poke", model="churn", mode="poke").mode == "poke"
    assert set(sensor.template_fields) == {"model", "alias", "version", "mlflow_conn_id"}
