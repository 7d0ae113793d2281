"""Steps in containers of a real engine."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from platform import python_version_tuple
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout
from tests.integration.conftest import shop_rows
from tests.system.runtime.conftest import Place

from ml_pipelines.contracts import StepRequest, StepResult
from ml_pipelines.errors import RequestError, SourceNotFound, TransientError
from ml_pipelines.runner.training import run_pipeline
from ml_pipelines.services.connected import ConnectedServices
from ml_pipelines.spec.loader import parse_spec
from ml_pipelines.store.artifact_store import ArtifactStore, Manifest
from ml_pipelines.store.cache_miss import differences
from ml_pipelines.store.layout import manifest_name
from ml_pipelines_airflow.execution.container import LABEL

pytestmark = [
    pytest.mark.docker,
    pytest.mark.xdist_group("docker"),
    pytest.mark.timeout(1800),  # the first one builds the image
    # MLflow's own.
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated:DeprecationWarning:mlflow"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

SECRET = "s3cr3t-t0k3n"
SECONDS = 300  # for anything to happen, on a busy machine
Ingest = Callable[..., StepRequest]


def until(what: str, found: Callable[[], Any]) -> Any:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.02)
    raise AssertionError(f"no {what} in {SECONDS} s")


def begun(place: Place) -> Any:
    """The one container of the store, as soon as its process runs; held there, so that it does not end meanwhile."""

    def running() -> Any:
        found = place.containers()
        return found[0] if found and found[0].status == "running" else None

    container = until("container", running)
    container.pause()
    return container


@contextlib.contextmanager
def meanwhile(do: Callable[[], None]) -> Iterator[None]:
    """Do something while the block runs; what it raises fails the test."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            do()
        except BaseException as exc:
            failed.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    assert not failed, failed


def follower(place: Place, request: StepRequest) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, str(Path(__file__).with_name("follower.py"))], stdin=subprocess.PIPE)
    settings = {"store": place.settings.store, "tracking_uri": place.settings.tracking_uri}
    asked = {"request": request.model_dump(mode="json"), "settings": settings, "docker": {"cpus": 2}}
    assert process.stdin
    with process.stdin as stdin:
        stdin.write(json.dumps(asked).encode())
    return process


def abandoned(place: Place, request: StepRequest) -> Any:
    """A container whose worker was killed."""
    process = follower(place, request)
    try:
        return begun(place)
    finally:
        process.kill()
        process.wait()


def test_every_step_makes_the_same_in_a_container_as_in_process(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = shop_rows()
    table = "\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)])
    (place.folder / "shop.csv").write_text(table)
    declared = {
        "model": {"name": place.folder.name, "task": "classification"},
        "data": {"file": {"path": str(place.folder / "shop.csv")}, "key": "id", "target": "label"},
        "candidates": [{"name": "linear", "estimator": "sklearn.linear_model.LogisticRegression"}],
        "gate": {"metric": "roc_auc"},
    }
    spec = parse_spec(json.dumps(declared), path="shop.yaml")
    here = f"file://{place.folder}/here"
    services = ConnectedServices(place.settings)

    def contained(request: StepRequest, services: ConnectedServices) -> StepResult:
        result = place.run(request)
        assert isinstance(result, StepResult)
        return result

    in_process = run_pipeline(spec, services, store=here, run_id="here")
    monkeypatch.setattr("ml_pipelines.runner.training.run_step", contained)
    in_containers = run_pipeline(spec, services, store=place.settings.store, run_id="there")

    major, minor, _ = python_version_tuple()
    for step in ("ingest", "check_quality", "preprocess", "split", "train"):
        one, other = flat(in_process[step]), flat(in_containers[step])
        assert other.status == "computed"
        assert digests(other) == digests(one), step
        recipes = [recipe(here, one), recipe(place.settings.store, other)]
        changed = differences(*recipes)
        # Nothing else may differ between the worker and the image, and with the same Python the keys are equal.
        assert all(each.startswith(f'python changed from "{major}.{minor}"') for each in changed), changed
        assert (one.key == other.key) == (changed == [])
    scores = [flat(each["evaluate"]).values for each in (in_process, in_containers)]
    assert scores[0]["test"] == scores[1]["test"]
    assert flat(in_process["decide"]).values["decision"]["outcome"] == "promoted"
    # The champion that the run in process has made is what this one was held against.
    assert flat(in_containers["record_decision"]).status == "published"
    assert place.containers() == []


def flat(result: Any) -> StepResult:
    found = result[0] if isinstance(result, list) else result
    assert isinstance(found, StepResult)
    return found


def digests(result: StepResult) -> dict[str, str]:
    return {name: ref.sha256 for name, ref in result.outputs.items()}


def recipe(store: str, result: StepResult) -> Any:
    data = ArtifactStore(store).files.read(manifest_name(result.step, result.key))
    assert data
    return Manifest.model_validate_json(data).components


def test_a_container_may_do_no_more_than_its_work(
    place: Place, ingest: Ingest, caplog: pytest.LogCaptureFixture
) -> None:
    seen: dict[str, Any] = {}

    def look() -> None:
        container = begun(place)
        container.reload()
        seen.update(container.attrs)
        container.unpause()

    with caplog.at_level(logging.INFO), meanwhile(look):
        result = place.with_secret(MLFLOW_TRACKING_TOKEN=SECRET).run(ingest(), memory="512m", cpus=0.5)
    host, config = seen["HostConfig"], seen["Config"]
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"]) == (512 * 2**20, 512 * 2**20, 500_000_000)
    assert (host["CapDrop"], host["SecurityOpt"]) == (["ALL"], ["no-new-privileges:true"])
    assert (host["ReadonlyRootfs"], host["Privileged"]) == (True, False)
    assert config["User"].partition(":")[0] not in ("", "0", "root") or os.getuid() == 0
    told = {name.removeprefix(f"{LABEL}."): value for name, value in config["Labels"].items() if LABEL in name}
    assert told.items() >= {"pipeline": "shop", "run": "r", "task": "ingest", "map_index": "-1", "try": "1"}.items()
    # Its environment is where a secret is, and nowhere else.
    assert f"MLFLOW_TRACKING_TOKEN={SECRET}" in config["Env"]
    config["Env"] = []
    assert SECRET not in json.dumps(seen)
    assert SECRET not in caplog.text
    assert SECRET not in next((place.folder / "store" / "containers").rglob("request.json")).read_text()
    assert f"ingest {result.key[:12]}: miss: first time" in caplog.text
    assert place.containers() == []


def test_it_does_not_run_as_root(place: Place, ingest: Ingest) -> None:
    place.run(ingest())
    (table,) = (place.folder / "store" / "objects").rglob("*.parquet")
    assert table.stat().st_uid == (os.getuid() or 50000)


def test_an_error_of_the_step_comes_back_as_it_is(place: Place, ingest: Ingest) -> None:
    request = ingest()
    (place.folder / "shop.csv").unlink()
    with pytest.raises(SourceNotFound, match="there is no such file") as caught:
        place.run(request)
    assert caught.value.where == str(place.folder / "shop.csv")
    assert place.containers() == []


def test_too_little_memory_is_told(place: Place, ingest: Ingest) -> None:
    with pytest.raises(RequestError, match="needs more memory than its container may have") as caught:
        place.run(ingest(), memory="32m")
    assert (caught.value.expected, caught.value.got) == ("at most 32m", "killed by the kernel, exit code 137")
    assert caught.value.fix == "raise memory under runtime.<task>.docker in the declaration"
    assert place.containers() == []


def test_a_timeout_removes_the_container(place: Place, ingest: Ingest) -> None:
    def expired(number: int, frame: object) -> None:
        raise AirflowTaskTimeout

    def expire() -> None:
        begun(place)
        signal.raise_signal(signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, expired)
    try:
        with meanwhile(expire), pytest.raises(AirflowTaskTimeout):
            place.run(ingest())
    finally:
        signal.signal(signal.SIGALRM, before)
    assert place.containers() == []


def test_a_kill_removes_the_container(place: Place, ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    ti = place.ti()
    monkeypatch.setattr(Place, "ti", lambda self: ti)

    def kill() -> None:
        begun(place)
        ti.task.on_kill()

    with meanwhile(kill), pytest.raises(TransientError, match="the step's container is gone"):
        place.run(ingest())
    assert place.containers() == []


def test_a_retry_follows_the_container_that_runs(
    place: Place, ingest: Ingest, caplog: pytest.LogCaptureFixture
) -> None:
    request = ingest()
    container = abandoned(place, request)

    def go_on() -> None:
        until("follower", lambda: "it is followed" in caplog.text)
        assert [each.id for each in place.containers()] == [container.id]
        container.unpause()

    with caplog.at_level(logging.INFO), meanwhile(go_on):
        result = place.run(request)
    assert (result.step, result.status) == ("ingest", "computed")
    assert "container ml-pipelines-" not in re.sub("it is followed", "", caplog.text).partition("earlier try")[0]
    assert place.containers() == []


def test_a_retry_takes_over_what_was_finished_meanwhile(place: Place, ingest: Ingest) -> None:
    request = ingest()
    container = abandoned(place, request)
    container.unpause()
    assert container.wait()["StatusCode"] == 0
    (document,) = [each for each in (place.folder / "store").glob("containers/*/*.json") if each.name != "request.json"]
    assert place.run(request) == StepResult.model_validate_json(document.read_text())
    assert place.containers() == []


def test_a_retry_starts_anew_if_the_earlier_container_has_failed(place: Place, ingest: Ingest) -> None:
    request = ingest()
    container = abandoned(place, request)
    table = place.folder / "shop.csv"
    hidden = table.rename(place.folder / "hidden.csv")
    container.unpause()
    assert container.wait()["StatusCode"] == 1
    hidden.rename(table)
    assert place.run(request).status == "computed"
    assert place.containers() == []


def test_a_container_that_nobody_follows_is_removed_by_the_next(place: Place, ingest: Ingest) -> None:
    orphan = abandoned(place, ingest("forgotten"))
    place.run(ingest("soon"))
    assert [each.id for each in place.containers()] == [orphan.id]
    heartbeat = place.folder / "store" / "containers" / orphan.labels[f"{LABEL}.job"] / "followed"
    long_ago = time.time() - 2 * 3600
    os.utime(heartbeat, (long_ago, long_ago))
    place.run(ingest("later"))
    assert place.containers() == []


def test_an_image_that_is_not_there_is_told(place: Place, ingest: Ingest) -> None:
    with pytest.raises(RequestError, match="there is no image 'ml-pipelines-nothing:none'") as caught:
        place.run(ingest(), image="ml-pipelines-nothing:none")
    assert "[ml_pipelines] docker_image" in caught.value.fix


def test_limits_that_the_engine_does_not_have_are_told(place: Place, ingest: Ingest) -> None:
    with pytest.raises(RequestError, match="the Docker engine does not take the container") as caught:
        place.run(ingest(), cpus=4096)
    assert "CPUs" in caught.value.got
