"""Events of the triggers. In a running triggerer: tests/integration/airflow/test_new_data.py."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Asset, AssetWatcher
from airflow.serialization.encoders import encode_trigger
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_pipelines.contracts import ArtifactRef, Identity
from ml_pipelines.errors import ServiceUnavailable, StoreUnavailable
from ml_pipelines.ports import TrackedModel
from ml_pipelines.services.settings import Settings
from ml_pipelines.store.artifact_store import ArtifactStore
from ml_pipelines.testing import FakeServices
from ml_pipelines_airflow import triggers
from ml_pipelines_airflow.triggers import DvcRevisionTrigger, ModelAliasTrigger, PollingTrigger

ARTIFACT = ArtifactRef(uri="file:///m", sha256="0" * 64, bytes=1, kind="model")
IDENTITY = Identity(pipeline="churn", run_id="r", task_id="register")


class Script(PollingTrigger):
    """A trigger that polls given values and ends after the last one."""

    kind = "script"

    def __init__(self, *values: Any, name: str | None = "n", poll_seconds: float = 0.0) -> None:
        super().__init__(description="the script", poll_seconds=poll_seconds, name=name)
        self.values: Iterator[Any] = iter(values)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "script", {"name": self.name, "poll_seconds": self.poll_seconds}

    def look_up(self) -> Any:
        try:
            value = next(self.values)
        except StopIteration:
            raise EndOfScript from None
        if isinstance(value, Exception):
            raise value
        return value and (value, {"state": value})


class EndOfScript(BaseException):
    """Ends the trigger, which continues after an Exception."""


def events_of(trigger: Any) -> list[Any]:
    """Return the values of the events until the script ends."""
    events: list[Any] = []

    async def listen() -> None:
        async for event in trigger.run():
            events.append(event.payload)  # noqa: PERF401 - events before the end count

    with pytest.raises(EndOfScript):
        asyncio.run(listen())
    return [event["state"] for event in events]


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ArtifactStore:
    settings = Settings(store=str(tmp_path / "store"), tracking_uri="sqlite://")
    monkeypatch.setattr(triggers, "airflow_settings", lambda connection: settings)
    return ArtifactStore(settings.store)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits of the trigger in seconds."""
    seconds_waited: list[float] = []

    async def sleep(seconds: float) -> None:
        seconds_waited.append(seconds)

    monkeypatch.setattr(triggers.asyncio, "sleep", sleep)
    return seconds_waited


def test_each_change_after_the_first_value_is_an_event() -> None:
    assert events_of(Script("a", "a", "b", "b", "c", "b")) == ["b", "c", "b"]


def test_missing_value_is_no_change() -> None:
    assert events_of(Script(None, "a", None, "a", "b")) == ["a", "b"]


def test_restart_creates_events_only_for_changes_since(store: ArtifactStore) -> None:
    assert events_of(Script("a", "b")) == ["b"]
    assert events_of(Script("b", "b")) == []
    assert events_of(Script("c")) == ["c"]
    assert [entry.name for entry in store.files.entries("watches")] == ["watches/script/n.json"]


def test_crash_before_the_value_is_saved_repeats_the_event() -> None:
    async def first(trigger: Any) -> Any:
        async for event in trigger.run():
            return event.payload["state"]

    assert events_of(Script("a")) == []
    assert asyncio.run(first(Script("b"))) == "b"
    assert events_of(Script("b")) == ["b"]


@given(st.lists(st.sampled_from([None, "a", "b", "restart"]), max_size=12))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_restarts_do_not_change_the_events(store: ArtifactStore, script: list[str | None]) -> None:
    parts: list[list[str | None]] = [[]]
    for step in script:
        if step == "restart":
            parts.append([])
        else:
            parts[-1].append(step)
    names = [f"{hash(tuple(script))}-{kind}" for kind in ("whole", "parts")]
    for entry in store.files.entries("watches"):
        store.files.delete(entry.name)
    whole = events_of(Script(*(step for part in parts for step in part), name=names[0]))
    assert [value for part in parts for value in events_of(Script(*part, name=names[1]))] == whole


def test_named_trigger_keeps_its_value_after_a_change_of_arguments() -> None:
    events_of(Script("a", poll_seconds=0.0))
    assert events_of(Script("b", poll_seconds=0.001)) == ["b"]
    events_of(Script("a", name=None, poll_seconds=0.0))
    assert events_of(Script("b", name=None, poll_seconds=0.001)) == []


def test_outage_is_logged_once_and_polled_less_often(waits: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    down = ServiceUnavailable("the git server does not answer")
    assert events_of(Script("a", *[down] * 6, "a", down, "b", poll_seconds=60.0)) == ["b"]
    assert waits == [60, 120, 240, 480, 600, 600, 600, 60, 120]
    lines = [line for line in capsys.readouterr().out.splitlines() if "the script" in line]
    outage = [
        "[warning",
        "the script is not available, will try again: ServiceUnavailable: the git server does not answer",
    ]
    recovery = ["[info", "the script is available again"]
    assert len(lines) == 4
    for line, parts in zip(lines, [outage, recovery] * 2, strict=True):
        assert all(part in line for part in parts), line


def test_failure_does_not_shorten_a_long_interval(waits: list[float]) -> None:
    events_of(Script("a", ServiceUnavailable("down"), poll_seconds=3600.0))
    assert waits == [3600, 3600]


def test_outage_of_thousands_of_polls_is_tolerated(waits: list[float]) -> None:
    assert events_of(Script("a", *[ServiceUnavailable("down")] * 3000, "b", poll_seconds=0.001)) == ["b"]
    assert max(waits) == 600


def test_unexpected_error_does_not_end_the_trigger(waits: list[float]) -> None:
    assert events_of(Script("a", ValueError("?"), "b")) == ["b"]


def test_unavailable_store_does_not_repeat_an_event(
    waits: list[float], monkeypatch: pytest.MonkeyPatch, store: ArtifactStore
) -> None:
    write, left = type(store.files).write, [2]

    def failing_write(*arguments: Any, **options: Any) -> None:
        if left[0] and b'"b"' in arguments[2]:
            left[0] -= 1
            raise StoreUnavailable("the store is full")
        write(*arguments, **options)

    monkeypatch.setattr(type(store.files), "write", failing_write)
    assert events_of(Script("a", "b", "b", "c")) == ["b", "c"]
    assert left == [0]


def test_polls_do_not_block_the_event_loop() -> None:
    import threading

    barrier = threading.Barrier(2, timeout=60)

    class Patient(Script):
        def look_up(self) -> Any:
            # Each of the two polls waits for the other.
            barrier.wait()
            return super().look_up()

    async def both() -> None:
        listeners = [asyncio.create_task(anext(Patient("a", "b", name=name).run())) for name in ("x", "y")]
        assert [event.payload for event in await asyncio.gather(*listeners)] == [{"state": "b"}] * 2

    asyncio.run(both())


def test_alias_trigger_returns_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    services = FakeServices()
    for number in range(2):
        services.registry.register("churn", TrackedModel("run", f"models:/m-{number}"), ARTIFACT, IDENTITY, {})
    monkeypatch.setattr("ml_pipelines.services.connected.ConnectedServices.registry", services.registry)
    trigger = ModelAliasTrigger(model="churn", alias="champion")
    assert trigger.look_up() is None
    services.registry.set_alias("churn", "2", "champion")
    assert trigger.look_up() == ("2", {"model": "churn", "alias": "champion", "version": "2"})


@pytest.mark.parametrize(
    "trigger",
    [
        DvcRevisionTrigger(path="a.csv", repo="${ML_DATA_REPO}"),
        DvcRevisionTrigger(path="a.csv", connection="data", rev="main", poll_seconds=5.0, name="churn.revision"),
        ModelAliasTrigger(model="churn"),
        ModelAliasTrigger(model="churn", alias="challenger", poll_seconds=5, mlflow_conn_id="m", name="n"),
    ],
)
def test_trigger_survives_serialization(trigger: Any) -> None:
    asset = Asset(name="a", uri="x-a://b", watchers=[AssetWatcher(name="w", trigger=trigger)])
    encoded = json.loads(json.dumps(encode_trigger(asset.watchers[0].trigger)))
    path, _, name = encoded["classpath"].rpartition(".")
    decoded = getattr(sys.modules[path], name)(**encoded["kwargs"])
    assert decoded.serialize() == trigger.serialize()
    assert {name: value for name, value in vars(decoded).items() if name in encoded["kwargs"]} == encoded["kwargs"]


def test_import_of_triggers_imports_no_heavy_package() -> None:
    program = (
        "import sys, ml_pipelines_airflow.triggers\n"
        "print(sorted({'dvc', 'mlflow', 'numpy', 'pandas', 'polars', 'sklearn', 'slack_sdk'} & set(sys.modules)))"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"
