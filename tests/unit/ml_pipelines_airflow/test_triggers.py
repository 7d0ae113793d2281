"""What is news and what is not. In a running triggerer: tests/integration/airflow/test_new_data.py."""

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
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_pipelines.contracts import ArtifactRef, Identity
from ml_pipelines.errors import ServiceUnavailable, StoreUnavailable
from ml_pipelines.ports import TrackedModel
from ml_pipelines.services.settings import Settings
from ml_pipelines.store.artifact_store import ArtifactStore
from ml_pipelines.testing import FakeServices
from ml_pipelines_airflow import triggers
from ml_pipelines_airflow.triggers import DvcRevisionTrigger, ModelAliasTrigger

ARTIFACT = ArtifactRef(uri="file:///m", sha256="0" * 64, bytes=1, kind="model")
IDENTITY = Identity(pipeline="churn", run_id="r", task_id="register")


class Script(triggers._Watch):
    """A watch that sees one thing after another, and then ends its trigger."""

    kind = "script"

    def __init__(self, *seen: Any, name: str | None = "n", poll_seconds: float = 0.0) -> None:
        super().__init__(what="the script", poll_seconds=poll_seconds, name=name)
        self.seen: Iterator[Any] = iter(seen)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "script", {"name": self.name, "poll_seconds": self.poll_seconds}

    def look(self) -> Any:
        try:
            found = next(self.seen)
        except StopIteration:
            raise EndOfScript from None
        if isinstance(found, Exception):
            raise found
        return found and (found, {"state": found})


class EndOfScript(BaseException):
    """No Exception, so the trigger does not go on."""


def told_by(trigger: Any) -> list[Any]:
    """The payloads of a trigger, until its script ends."""
    events: list[Any] = []

    async def listen() -> None:
        async for event in trigger.run():
            events.append(event.payload)  # noqa: PERF401 - what came before the end counts too

    with pytest.raises(EndOfScript):
        asyncio.run(listen())
    return [event["state"] for event in events]


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ArtifactStore:
    where = Settings(store=str(tmp_path / "store"), tracking_uri="sqlite://")
    monkeypatch.setattr(triggers, "airflow_settings", lambda connection: where)
    return ArtifactStore(where.store)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the trigger would have waited."""
    found: list[float] = []

    async def sleep(seconds: float) -> None:
        found.append(seconds)

    monkeypatch.setattr(triggers.asyncio, "sleep", sleep)
    return found


def test_the_first_sight_is_noted_and_each_move_is_told() -> None:
    assert told_by(Script("a", "a", "b", "b", "c", "b")) == ["b", "c", "b"]


def test_what_is_not_there_is_no_news_but_its_coming_is() -> None:
    assert told_by(Script(None, "a", None, "a", "b")) == ["a", "b"]


def test_after_a_restart_only_what_has_moved_meanwhile_is_told(store: ArtifactStore) -> None:
    assert told_by(Script("a", "b")) == ["b"]
    assert told_by(Script("b", "b")) == []
    assert told_by(Script("c")) == ["c"]
    assert [entry.name for entry in store.files.entries("watches")] == ["watches/script/n.json"]


def test_a_death_between_telling_and_noting_tells_it_again() -> None:
    async def first(trigger: Any) -> Any:
        async for event in trigger.run():
            return event.payload["state"]

    assert told_by(Script("a")) == []
    assert asyncio.run(first(Script("b"))) == "b"
    assert told_by(Script("b")) == ["b"]


@given(st.lists(st.sampled_from([None, "a", "b", "restart"]), max_size=12))
@settings(max_examples=25, deadline=None)
def test_a_restart_changes_nothing(script: list[str | None]) -> None:
    parts: list[list[str | None]] = [[]]
    for step in script:
        if step == "restart":
            parts.append([])
        else:
            parts[-1].append(step)
    names = [f"{hash(tuple(script))}-{how}" for how in ("whole", "parts")]
    for entry in (files := triggers._services().store.files).entries("watches"):
        files.delete(entry.name)
    whole = told_by(Script(*(step for part in parts for step in part), name=names[0]))
    assert [told for part in parts for told in told_by(Script(*part, name=names[1]))] == whole


def test_other_arguments_of_the_same_name_go_on_where_it_was() -> None:
    told_by(Script("a", poll_seconds=0.0))
    assert told_by(Script("b", poll_seconds=0.001)) == ["b"]
    told_by(Script("a", name=None, poll_seconds=0.0))
    assert told_by(Script("b", name=None, poll_seconds=0.001)) == []


def test_what_can_t_be_reached_is_told_once_and_asked_less_and_less_often(
    waits: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    down = ServiceUnavailable("the git server does not answer")
    assert told_by(Script("a", *[down] * 6, "a", down, "b", poll_seconds=60.0)) == ["b"]
    assert waits == [60, 120, 240, 480, 600, 600, 600, 60, 120]
    said = [line for line in capsys.readouterr().out.splitlines() if "the script" in line]
    outage = [
        "[warning",
        "the script can't be seen, will try again: ServiceUnavailable: the git server does not answer",
    ]
    recovery = ["[info", "the script can be seen again"]
    assert len(said) == 4
    for line, parts in zip(said, [outage, recovery] * 2, strict=True):
        assert all(part in line for part in parts), line


def test_a_long_poll_is_not_made_shorter_by_a_failure(waits: list[float]) -> None:
    told_by(Script("a", ServiceUnavailable("down"), poll_seconds=3600.0))
    assert waits == [3600, 3600]


def test_an_outage_may_last_for_weeks(waits: list[float]) -> None:
    assert told_by(Script("a", *[ServiceUnavailable("down")] * 3000, "b", poll_seconds=0.001)) == ["b"]
    assert max(waits) == 600


def test_a_fault_that_nobody_foresaw_does_not_end_it(waits: list[float]) -> None:
    assert told_by(Script("a", ValueError("?"), "b")) == ["b"]


def test_a_store_that_is_away_is_no_reason_to_tell_twice(
    waits: list[float], monkeypatch: pytest.MonkeyPatch, store: ArtifactStore
) -> None:
    write, left = type(store.files).write, [2]

    def away(*arguments: Any, **options: Any) -> None:
        if left[0] and b'"b"' in arguments[2]:
            left[0] -= 1
            raise StoreUnavailable("the store is full")
        write(*arguments, **options)

    monkeypatch.setattr(type(store.files), "write", away)
    assert told_by(Script("a", "b", "b", "c")) == ["b", "c"]
    assert left == [0]


def test_looking_does_not_hold_up_the_event_loop() -> None:
    """Two that wait for each other both get on."""
    import threading

    barrier = threading.Barrier(2, timeout=60)

    class Patient(Script):
        def look(self) -> Any:
            barrier.wait()
            return super().look()

    async def both() -> None:
        listeners = [asyncio.create_task(anext(Patient("a", "b", name=name).run())) for name in ("x", "y")]
        assert [event.payload for event in await asyncio.gather(*listeners)] == [{"state": "b"}] * 2

    asyncio.run(both())


# The two


def test_an_alias_that_moves_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    services = FakeServices()
    for number in range(2):
        services.registry.register("churn", TrackedModel("run", f"models:/m-{number}"), ARTIFACT, IDENTITY, {})
    monkeypatch.setattr("ml_pipelines.services.connected.ConnectedServices.registry", services.registry)
    trigger = ModelAliasTrigger(model="churn", alias="champion")
    assert trigger.look() is None
    services.registry.set_alias("churn", "2", "champion")
    assert trigger.look() == ("2", {"model": "churn", "alias": "champion", "version": "2"})


@pytest.mark.parametrize(
    "trigger",
    [
        DvcRevisionTrigger(path="a.csv", repo="${REPO}"),
        DvcRevisionTrigger(path="a.csv", connection="data", rev="main", poll_seconds=5.0, name="churn.revision"),
        ModelAliasTrigger(model="churn"),
        ModelAliasTrigger(model="churn", alias="challenger", poll_seconds=5, mlflow_conn_id="m", name="n"),
    ],
)
def test_an_equal_one_is_made_in_the_triggerer(trigger: Any) -> None:
    asset = Asset(name="a", uri="x-a://b", watchers=[AssetWatcher(name="w", trigger=trigger)])
    encoded = json.loads(json.dumps(encode_trigger(asset.watchers[0].trigger)))
    path, _, name = encoded["classpath"].rpartition(".")
    made = getattr(sys.modules[path], name)(**encoded["kwargs"])
    assert made.serialize() == trigger.serialize()
    assert {name: value for name, value in vars(made).items() if name in encoded["kwargs"]} == encoded["kwargs"]


def test_the_triggerer_is_spared_what_trains() -> None:
    program = (
        "import sys, ml_pipelines_airflow.triggers\n"
        "print(sorted({'dvc', 'mlflow', 'numpy', 'pandas', 'polars', 'sklearn', 'slack_sdk'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
