"""Steps in containers of a real Docker engine."""

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
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from platform import python_version_tuple
from types import FrameType
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout
from tests.integration.conftest import shop_rows
from tests.system.runtime.conftest import Runtime

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
    pytest.mark.timeout(1800),  # the first test builds the image
    # Warnings of MLflow itself.
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated:DeprecationWarning:mlflow"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

SECRET = "s3cr3t-t0k3n"
SECONDS = 300  # timeout of all waits, for busy machines
Ingest = Callable[..., StepRequest]


def until(what: str, condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"no {what} in {SECONDS} s")


def paused_container(runtime: Runtime) -> Any:
    """Wait until the only container of the store runs, pause it, and return it."""

    def running() -> Any:
        containers = runtime.containers()
        return containers[0] if containers and containers[0].status == "running" else None

    container = until("container", running)
    container.pause()
    return container


@contextlib.contextmanager
def concurrently(action: Callable[[], None]) -> Iterator[None]:
    """Run an action in a thread while the block runs; its errors fail the test."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            action()
        except BaseException as exc:
            errors.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    assert not errors, errors


def follower(runtime: Runtime, request: StepRequest) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, str(Path(__file__).with_name("follower.py"))], stdin=subprocess.PIPE)
    settings = {"store": runtime.settings.store, "tracking_uri": runtime.settings.tracking_uri}
    arguments = {"request": request.model_dump(mode="json"), "settings": settings, "docker": {"cpus": 2}}
    assert process.stdin
    with process.stdin as stdin:
        stdin.write(json.dumps(arguments).encode())
    return process


def abandoned_container(runtime: Runtime, request: StepRequest) -> Any:
    """Return a paused container whose worker was killed."""
    process = follower(runtime, request)
    try:
        return paused_container(runtime)
    finally:
        process.kill()
        process.wait()


def test_results_in_containers_equal_those_in_process(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = shop_rows()
    table = "\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)])
    (runtime.folder / "shop.csv").write_text(table)
    declaration = {
        "model": {"name": runtime.folder.name, "task": "classification"},
        "data": {"file": {"path": str(runtime.folder / "shop.csv")}, "key": "id", "target": "label"},
        "candidates": [{"name": "linear", "estimator": "sklearn.linear_model.LogisticRegression"}],
        "gate": {"metric": "roc_auc"},
    }
    spec = parse_spec(json.dumps(declaration), path="shop.yaml")
    store = f"file://{runtime.folder}/in-process"
    services = ConnectedServices(runtime.settings)

    def run_step(request: StepRequest, services: ConnectedServices) -> StepResult:
        result = runtime.run(request)
        assert isinstance(result, StepResult)
        return result

    in_process = run_pipeline(spec, services, store=store, run_id="in-process")
    monkeypatch.setattr("ml_pipelines.runner.training.run_step", run_step)
    in_containers = run_pipeline(spec, services, store=runtime.settings.store, run_id="in-containers")

    major, minor, _ = python_version_tuple()
    for step in ("ingest", "check_quality", "preprocess", "split", "train"):
        local, contained = single(in_process[step]), single(in_containers[step])
        assert contained.status == "computed"
        assert digests(contained) == digests(local), step
        changes = differences(components(store, local), components(runtime.settings.store, contained))
        # Only the Python version may differ between the worker and the image. With the same version, keys are equal.
        assert all(change.startswith(f'python changed from "{major}.{minor}"') for change in changes), changes
        assert (local.key == contained.key) == (changes == [])
    evaluations = [single(results["evaluate"]).values for results in (in_process, in_containers)]
    assert evaluations[0]["test"] == evaluations[1]["test"]
    assert single(in_process["decide"]).values["decision"]["outcome"] == "promoted"
    # The second run compares with the champion of the first.
    assert single(in_containers["record_decision"]).status == "published"
    assert runtime.containers() == []


def single(result: Any) -> StepResult:
    one = result[0] if isinstance(result, list) else result
    assert isinstance(one, StepResult)
    return one


def digests(result: StepResult) -> dict[str, str]:
    return {name: ref.sha256 for name, ref in result.outputs.items()}


def components(store: str, result: StepResult) -> Any:
    data = ArtifactStore(store).files.read(manifest_name(result.step, result.key))
    assert data
    return Manifest.model_validate_json(data).components


def test_container_has_limits_labels_and_no_privileges(
    runtime: Runtime, ingest: Ingest, caplog: pytest.LogCaptureFixture
) -> None:
    attributes: dict[str, Any] = {}

    def inspect() -> None:
        container = paused_container(runtime)
        container.reload()
        attributes.update(container.attrs)
        container.unpause()

    with caplog.at_level(logging.INFO), concurrently(inspect):
        result = runtime.with_secret(MLFLOW_TRACKING_TOKEN=SECRET).run(ingest(), memory="512m", cpus=0.5)
    host, config = attributes["HostConfig"], attributes["Config"]
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"]) == (512 * 2**20, 512 * 2**20, 500_000_000)
    assert (host["CapDrop"], host["SecurityOpt"]) == (["ALL"], ["no-new-privileges:true"])
    assert (host["ReadonlyRootfs"], host["Privileged"]) == (True, False)
    assert config["User"].partition(":")[0] not in ("", "0", "root") or os.getuid() == 0
    labels = {name.removeprefix(f"{LABEL}."): value for name, value in config["Labels"].items() if LABEL in name}
    expected = {"pipeline": "shop", "run": "r", "task": "ingest", "step": "ingest", "map_index": "-1", "try": "1"}
    assert labels.items() >= expected.items()
    # Only the environment has the secret.
    assert f"MLFLOW_TRACKING_TOKEN={SECRET}" in config["Env"]
    config["Env"] = []
    assert SECRET not in json.dumps(attributes)
    assert SECRET not in caplog.text
    assert SECRET not in next((runtime.folder / "store" / "containers").rglob("request.json")).read_text()
    assert f"ingest {result.key[:12]}: miss: first time" in caplog.text
    assert runtime.containers() == []


def test_container_does_not_run_as_root(runtime: Runtime, ingest: Ingest) -> None:
    runtime.run(ingest())
    (table,) = (runtime.folder / "store" / "objects").rglob("*.parquet")
    assert table.stat().st_uid == (os.getuid() or 50000)


def test_error_of_the_step_is_raised(runtime: Runtime, ingest: Ingest) -> None:
    request = ingest()
    (runtime.folder / "shop.csv").unlink()
    with pytest.raises(SourceNotFound, match="there is no such file") as caught:
        runtime.run(request)
    assert caught.value.where == str(runtime.folder / "shop.csv")
    assert runtime.containers() == []


def test_too_little_memory_raises(runtime: Runtime, ingest: Ingest) -> None:
    with pytest.raises(RequestError, match="needs more memory than the limit of its container") as caught:
        runtime.run(ingest(), memory="32m")
    assert (caught.value.expected, caught.value.got) == ("at most 32m", "killed by the kernel, exit code 137")
    assert runtime.containers() == []


def test_timeout_removes_the_container(runtime: Runtime, ingest: Ingest) -> None:
    def expired(number: int, frame: FrameType | None) -> None:
        # An exception in a request can leave its socket to the garbage collector: try again after the request.
        if any("urllib3" in caller.f_code.co_filename for caller, _ in traceback.walk_stack(frame)):
            signal.setitimer(signal.ITIMER_REAL, 0.01)
        else:
            raise AirflowTaskTimeout

    def expire() -> None:
        paused_container(runtime)
        signal.raise_signal(signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, expired)
    try:
        with concurrently(expire), pytest.raises(AirflowTaskTimeout):
            runtime.run(ingest())
    finally:
        signal.signal(signal.SIGALRM, before)
    assert runtime.containers() == []


def test_kill_removes_the_container(runtime: Runtime, ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    ti = runtime.ti()
    monkeypatch.setattr(Runtime, "ti", lambda self: ti)

    def kill() -> None:
        paused_container(runtime)
        ti.task.on_kill()

    with concurrently(kill), pytest.raises(TransientError, match="the container of the step is gone"):
        runtime.run(ingest())
    assert runtime.containers() == []


def test_retry_follows_the_running_container(
    runtime: Runtime, ingest: Ingest, caplog: pytest.LogCaptureFixture
) -> None:
    request = ingest()
    container = abandoned_container(runtime, request)

    def unpause() -> None:
        until("follower", lambda: "following the container" in caplog.text)
        assert [running.id for running in runtime.containers()] == [container.id]
        container.unpause()

    with caplog.at_level(logging.INFO), concurrently(unpause):
        result = runtime.run(request)
    assert (result.step, result.status) == ("ingest", "computed")
    assert not re.search(r"^.*\bcontainer ml-pipelines-\S+ of \S+:", caplog.text, re.MULTILINE), "a second container"
    assert runtime.containers() == []


def test_retry_takes_the_result_of_an_ended_container(runtime: Runtime, ingest: Ingest) -> None:
    request = ingest()
    container = abandoned_container(runtime, request)
    container.unpause()
    assert container.wait()["StatusCode"] == 0
    documents = (runtime.folder / "store").glob("containers/*/*.json")
    (document,) = [path for path in documents if path.name != "request.json"]
    assert runtime.run(request) == StepResult.model_validate_json(document.read_text())
    assert runtime.containers() == []


def test_retry_starts_a_new_container_after_a_failed_one(runtime: Runtime, ingest: Ingest) -> None:
    request = ingest()
    container = abandoned_container(runtime, request)
    table = runtime.folder / "shop.csv"
    hidden = table.rename(runtime.folder / "hidden.csv")
    container.unpause()
    assert container.wait()["StatusCode"] == 1
    hidden.rename(table)
    assert runtime.run(request).status == "computed"
    assert runtime.containers() == []


def test_orphan_is_removed_by_the_next_container(runtime: Runtime, ingest: Ingest) -> None:
    orphan = abandoned_container(runtime, ingest("forgotten"))
    runtime.run(ingest("soon"))
    assert [running.id for running in runtime.containers()] == [orphan.id]
    heartbeat = runtime.folder / "store" / "containers" / orphan.labels[f"{LABEL}.job"] / "followed"
    old = time.time() - 2 * 3600
    os.utime(heartbeat, (old, old))
    runtime.run(ingest("later"))
    assert runtime.containers() == []


def test_missing_image_raises(runtime: Runtime, ingest: Ingest) -> None:
    with pytest.raises(RequestError, match="the image 'ml-pipelines-nothing:none' is not available") as caught:
        runtime.run(ingest(), image="ml-pipelines-nothing:none")
    assert "[ml_pipelines] docker_image" in caught.value.fix


def test_limits_beyond_the_engine_raise(runtime: Runtime, ingest: Ingest) -> None:
    with pytest.raises(RequestError, match="the Docker engine rejects the container") as caught:
        runtime.run(ingest(), cpus=4096)
    assert "CPUs" in caught.value.got
