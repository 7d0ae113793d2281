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
    made = FakeRegistry()
    for number in range(2):
        made.register("churn", TrackedModel("run", f"models:/m-{number}"), ARTIFACT, IDENTITY, {})
    monkeypatch.setattr(sensors, "airflow_settings", lambda connection: connection)
    monkeypatch.setattr(sensors, "ConnectedServices", lambda connection: SimpleNamespace(registry=made))
    return made


def poked(**options: Any) -> tuple[bool, Any]:
    found = ModelAliasSensor(task_id="wait", model="churn", **options).poke({})
    return found.is_done, found.xcom_value


def test_it_waits_for_the_alias(registry: FakeRegistry) -> None:
    assert poked() == (False, None)
    registry.set_alias("churn", "2", "champion")
    assert poked() == (True, {"model": "churn", "alias": "champion", "version": "2"})
    assert poked(alias="challenger") == (False, None)


@pytest.mark.parametrize(("version", "done"), [("1", False), (1, False), ("2", True), (2, True)])
def test_it_waits_for_a_version(registry: FakeRegistry, version: str | int, done: bool) -> None:
    registry.set_alias("churn", "2", "champion")
    assert poked(version=version)[0] is done


def test_a_registry_that_does_not_answer_is_asked_again(
    registry: FakeRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.down = True
    assert poked() == (False, None)
    assert "the registry does not answer, and will be asked again" in capsys.readouterr().out


def test_it_takes_no_slot_while_it_waits() -> None:
    sensor = ModelAliasSensor(task_id="wait", model="churn")
    assert sensor.mode == "reschedule"
    assert ModelAliasSensor(task_id="poke", model="churn", mode="poke").mode == "poke"
    assert set(sensor.template_fields) == {"model", "alias", "version", "mlflow_conn_id"}
