"""The runtime beside an engine of the test's own. A real one is in tests/system."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ml_pipelines._utils.failure import Failure
from ml_pipelines.contracts import Identity, StepRequest, StepResult
from ml_pipelines.errors import (
    DataError,
    PipelineError,
    RequestError,
    ServiceUnavailable,
    StoreUnavailable,
    TransientError,
)
from ml_pipelines.services.settings import Settings
from ml_pipelines.spec.execution import Docker
from ml_pipelines_airflow.execution import container as runtime
from ml_pipelines_airflow.execution.container import container_environment, run_in_container
from ml_pipelines_airflow.execution.docker_client import Container

RESULT = StepResult(step="train", key="0" * 64, status="computed", reason="miss: first time")
State = dict[str, Any]
RUNNING: State = {"Status": "running"}
CREATED: State = {"Status": "created"}
DONE: State = {"Status": "exited", "ExitCode": 0, "OOMKilled": False}
FAILED = DONE | {"ExitCode": 1}


class DockerEngine:
    """Containers that go through given states, one each time that they are looked at; None: the engine is away."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self.containers: dict[str, Any] = {}
        self.course: list[State | None] = [RUNNING, DONE]
        self.document: bytes | None = RESULT.model_dump_json().encode()
        self.asked: list[dict[str, Any]] = []
        self.started: list[str] = []
        self.removed: list[str] = []

    def put(self, name: str, state: State, **labels: str) -> None:
        told = {"job": name.removeprefix("ml-pipelines-"), "result": "result.json", "patience": "3600"} | labels
        labels = {f"ml-pipelines.{key}": value for key, value in told.items()}
        self.containers[name] = Container(name, labels, state, datetime.now(UTC))

    def find(self, name: str) -> Container | None:
        found = self.containers.get(name)
        if found is None or name not in self.started:
            return found
        state = self.course.pop(0) if len(self.course) > 1 else self.course[0]
        if state is None:
            raise ServiceUnavailable("the engine is away")
        if state == DONE and self.document is not None:
            (self.store / "containers" / name.removeprefix("ml-pipelines-")).mkdir(parents=True, exist_ok=True)
            job, file = found.labels["ml-pipelines.job"], found.labels["ml-pipelines.result"]
            (self.store / "containers" / job / file).write_bytes(self.document)
        return Container(name, found.labels, state, found.created)

    def labelled(self, label: str) -> list[Container]:
        return list(self.containers.values())

    def create(self, name: str, **asked: Any) -> bool:
        self.asked.append(asked)
        self.put(name, CREATED)
        self.containers[name] = Container(name, asked["labels"], CREATED, datetime.now(UTC))
        return True

    def start(self, name: str) -> None:
        self.started.append(name)

    def log_after(self, name: str, stamp: str) -> list[tuple[str, str]]:
        return [("2026-01-01T00:00:00.000000001Z", "training ...")] if not stamp else []

    def remove(self, name: str) -> None:
        self.removed.append(name)
        self.containers.pop(name, None)


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DockerEngine:
    made = DockerEngine(tmp_path)
    monkeypatch.setattr(runtime, "DockerEngine", lambda: made)
    monkeypatch.setattr(runtime, "_POLL_SECONDS", 0)
    return made


@pytest.fixture
def request_of(tmp_path: Path) -> Callable[..., StepRequest]:
    def make(**parameters: Any) -> StepRequest:
        identity = Identity(pipeline="small", run_id="r", task_id="train_model", map_index=1)
        return StepRequest(step="train", parameters=parameters, seed=1, store=f"file://{tmp_path}", identity=identity)

    return make


@pytest.fixture
def run(engine: DockerEngine, request_of: Callable[..., StepRequest]) -> Callable[[], StepResult]:
    def call() -> StepResult:
        request = request_of()
        task = SimpleNamespace(retry_delay=timedelta(hours=2), on_kill=None)
        where = Settings(store=request.store, tracking_uri="http://mlflow")
        return run_in_container(request, where, docker=Docker(memory="1g"), ti=SimpleNamespace(try_number=3, task=task))

    return call


def name_of(request: StepRequest) -> str:
    return runtime._Job.of(request).container


def test_the_container_is_asked_for_the_request_and_the_result_is_taken(
    engine: DockerEngine, run: Callable[[], StepResult], request_of: Callable[..., StepRequest], tmp_path: Path
) -> None:
    assert run() == RESULT
    (asked,) = engine.asked
    name = name_of(request_of())
    step, request, path, result, address = asked["command"]
    assert (asked["entrypoint"], step, request, result) == (["ml-pipelines"], "run-step", "--request", "--result")
    assert StepRequest.model_validate_json(Path(path.removeprefix("file://")).read_bytes()) == request_of()
    assert (
        address
        == f"file://{tmp_path}/containers/{name.removeprefix('ml-pipelines-')}/{asked['labels']['ml-pipelines.result']}"
    )
    assert asked["limits"].items() >= {"mem_limit": 2**30, "memswap_limit": 2**30, "nano_cpus": 10**9}.items()
    assert asked["labels"].items() >= {"ml-pipelines.try": "3", "ml-pipelines.map_index": "1"}.items()
    # An orphan is not taken for one before a retry can have come.
    assert asked["labels"]["ml-pipelines.patience"] == str(4 * 3600.0)
    assert asked["user"] == (f"{os.getuid()}:{os.getgid()}" if os.getuid() else None)
    assert (engine.started, engine.removed) == ([name], [name])


def test_a_container_that_runs_is_not_started_twice(
    engine: DockerEngine, run: Callable[[], StepResult], request_of: Callable[..., StepRequest]
) -> None:
    engine.put(name := name_of(request_of()), RUNNING)
    engine.started.append(name)
    assert run() == RESULT
    assert (engine.asked, engine.started) == ([], [name])


def test_one_that_was_made_but_not_started_is_started(
    engine: DockerEngine, run: Callable[[], StepResult], request_of: Callable[..., StepRequest]
) -> None:
    engine.put(name := name_of(request_of()), CREATED)
    assert run() == RESULT
    assert (engine.asked, engine.started) == ([], [name])


def test_one_that_has_failed_is_replaced(
    engine: DockerEngine, run: Callable[[], StepResult], request_of: Callable[..., StepRequest]
) -> None:
    engine.put(name := name_of(request_of()), FAILED)
    assert run() == RESULT
    assert (len(engine.asked), engine.removed) == (1, [name, name])


def test_an_error_of_the_step_is_raised_as_it_is(engine: DockerEngine, run: Callable[[], StepResult]) -> None:
    engine.document = Failure.from_error(DataError("a single class", fix="more rows")).model_dump_json().encode()
    with pytest.raises(DataError, match="a single class"):
        run()
    assert engine.containers == {}


ENDS: dict[str, tuple[State, type[PipelineError], str, str]] = {
    "memory": (
        FAILED | {"OOMKilled": True, "ExitCode": 137},
        RequestError,
        "the step needs more memory than its container may have",
        "killed by the kernel, exit code 137",
    ),
    "killed": (
        FAILED | {"ExitCode": 137},
        TransientError,
        "the step's container has ended without a result",
        "exit code 137, killed from outside",
    ),
    "broken": (FAILED, TransientError, "the step's container has ended without a result", "exit code 1"),
}


@pytest.mark.parametrize("how", ENDS)
def test_an_end_without_a_result_is_told(engine: DockerEngine, run: Callable[[], StepResult], how: str) -> None:
    state, kind, what, got = ENDS[how]
    engine.course, engine.document = [RUNNING, state], None
    with pytest.raises(kind) as error:
        run()
    assert (type(error.value), error.value.what, error.value.got) == (kind, what, got)
    assert error.value.fix
    assert engine.containers == {}


def test_a_result_of_another_version_is_told(engine: DockerEngine, run: Callable[[], StepResult]) -> None:
    engine.document = b'{"outcome": "well"}'
    with pytest.raises(RequestError, match="has left something else than a result") as error:
        run()
    assert error.value.fix == "build the training image from the version that the workers have"


def test_an_engine_that_is_away_for_a_moment_is_waited_for(engine: DockerEngine, run: Callable[[], StepResult]) -> None:
    engine.course = [RUNNING, None, None, DONE]
    assert run() == RESULT


def test_an_engine_that_stays_away_leaves_the_container_to_the_next_try(
    engine: DockerEngine, run: Callable[[], StepResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "_ENGINE_AWAY_SECONDS", 0)
    engine.course = [RUNNING, None]
    with pytest.raises(ServiceUnavailable, match="the engine is away"):
        run()
    assert (len(engine.containers), engine.removed) == (1, [])


def test_a_store_that_is_away_leaves_the_result_to_the_next_try(
    engine: DockerEngine, run: Callable[[], StepResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(self: object, name: str) -> bytes:
        raise StoreUnavailable("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr("ml_pipelines.store.filesystems.local.LocalFileSystem.read", away)
        with pytest.raises(StoreUnavailable):
            run()
    assert engine.removed == []
    assert run() == RESULT
    assert len(engine.asked) == 1


@pytest.mark.parametrize(("hours", "reaped"), [(0.5, False), (2, True)])
def test_what_nobody_follows_is_removed(
    engine: DockerEngine, run: Callable[[], StepResult], tmp_path: Path, hours: float, reaped: bool
) -> None:
    engine.put("ml-pipelines-other", RUNNING)
    followed = tmp_path / "containers" / "other" / "followed"
    followed.parent.mkdir(parents=True)
    followed.touch()
    moment = (datetime.now(UTC) - timedelta(hours=hours)).timestamp()
    os.utime(followed, (moment, moment))
    run()
    assert ("ml-pipelines-other" in engine.removed) == reaped


def test_a_container_gets_what_it_needs_and_nothing_else(request_of: Callable[..., StepRequest]) -> None:
    worker = {
        "DATA_TOKEN": "d",
        "AWS_SECRET_ACCESS_KEY": "a",
        "MLFLOW_TRACKING_URI": "http://other",
        "OPENBLAS_CORETYPE": "Haswell",
        "AIRFLOW__CORE__FERNET_KEY": "f",
        "PATH": "/bin",
    }
    where = Settings(
        store="s3://b/store",
        tracking_uri="http://mlflow",
        tracking_variables={"MLFLOW_TRACKING_TOKEN": "t"},
        connections={"crm": "sqlite://", "other": "o"},
        environment=worker,
    )
    given = container_environment(request_of(source={"url": "${DATA_TOKEN:-x}/y", "connection": "crm"}), where)
    assert (
        given.items()
        >= {
            "AWS_SECRET_ACCESS_KEY": "a",
            "DATA_TOKEN": "d",
            "HOME": "/tmp",  # noqa: S108  the container's own
            "MLFLOW_TRACKING_TOKEN": "t",
            "MLFLOW_TRACKING_URI": "http://mlflow",
            "ML_PIPELINES_CONNECTION_CRM": "sqlite://",
            "ML_PIPELINES_STORE": "s3://b/store",
            "OPENBLAS_CORETYPE": "Haswell",
        }.items()
    )
    assert not given.keys() & {"AIRFLOW__CORE__FERNET_KEY", "PATH", "ML_PIPELINES_CONNECTION_OTHER"}
