"""Containers with a fake engine. A real engine is tested in tests/system."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ml_pipelines._utils.error_json import Failure
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
from ml_pipelines.spec.placement import Docker
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
    """A fake engine. Each look-up of a container returns its next state; None stands for an unavailable engine."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self.containers: dict[str, Any] = {}
        self.states: list[State | None] = [RUNNING, DONE]
        self.document: bytes | None = RESULT.model_dump_json().encode()
        self.created: list[dict[str, Any]] = []
        self.started: list[str] = []
        self.removed: list[str] = []

    def put(self, name: str, state: State, **labels: str) -> None:
        values = {"job": name.removeprefix("ml-pipelines-"), "result": "result.json", "orphan_age": "3600"} | labels
        labels = {f"ml-pipelines.{key}": value for key, value in values.items()}
        self.containers[name] = Container(name, labels, state, datetime.now(UTC))

    def find(self, name: str) -> Container | None:
        container = self.containers.get(name)
        if container is None or name not in self.started:
            return container
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if state is None:
            raise ServiceUnavailable("the engine is unavailable")
        if state == DONE and self.document is not None:
            (self.store / "containers" / name.removeprefix("ml-pipelines-")).mkdir(parents=True, exist_ok=True)
            job, file = container.labels["ml-pipelines.job"], container.labels["ml-pipelines.result"]
            (self.store / "containers" / job / file).write_bytes(self.document)
        return Container(name, container.labels, state, container.created)

    def labelled(self, label: str) -> list[Container]:
        return list(self.containers.values())

    def create(self, name: str, **options: Any) -> bool:
        self.created.append(options)
        self.put(name, CREATED)
        self.containers[name] = Container(name, options["labels"], CREATED, datetime.now(UTC))
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
    engine = DockerEngine(tmp_path)
    monkeypatch.setattr(runtime, "DockerEngine", lambda: engine)
    monkeypatch.setattr(runtime, "POLL_SECONDS", 0)
    return engine


@pytest.fixture
def make_request(tmp_path: Path) -> Callable[..., StepRequest]:
    def make(step: str = "train", **parameters: Any) -> StepRequest:
        identity = Identity(pipeline="small", run_id="r", task_id="train_model", map_index=1)
        return StepRequest(step=step, parameters=parameters, seed=1, store=f"file://{tmp_path}", identity=identity)

    return make


@pytest.fixture
def run(engine: DockerEngine, make_request: Callable[..., StepRequest]) -> Callable[..., StepResult]:
    def call(step: str = "train") -> StepResult:
        request = make_request(step)
        task = SimpleNamespace(retry_delay=timedelta(hours=2), on_kill=None)
        settings = Settings(store=request.store, tracking_uri="http://mlflow")
        return run_in_container(
            request, settings, docker=Docker(memory="1g"), ti=SimpleNamespace(try_number=3, task=task)
        )

    return call


def name_of(request: StepRequest) -> str:
    return f"ml-pipelines-{hashlib.sha256(request.model_dump_json().encode()).hexdigest()[:32]}"


def test_container_gets_the_request_and_returns_the_result(
    engine: DockerEngine, run: Callable[..., StepResult], make_request: Callable[..., StepRequest], tmp_path: Path
) -> None:
    assert run() == RESULT
    (options,) = engine.created
    name = name_of(make_request())
    step, request, path, result, address = options["command"]
    assert (options["entrypoint"], step, request, result) == (["ml-pipelines"], "run-step", "--request", "--result")
    assert StepRequest.model_validate_json(Path(path.removeprefix("file://")).read_bytes()) == make_request()
    folder = f"file://{tmp_path}/containers/{name.removeprefix('ml-pipelines-')}"
    assert address == f"{folder}/{options['labels']['ml-pipelines.result']}"
    assert options["limits"].items() >= {"mem_limit": 2**30, "memswap_limit": 2**30, "nano_cpus": 10**9}.items()
    assert (
        options["labels"].items()
        >= {"ml-pipelines.try": "3", "ml-pipelines.step": "train", "ml-pipelines.map_index": "1"}.items()
    )
    # Twice the retry delay: a retry comes before the container counts as an orphan.
    assert options["labels"]["ml-pipelines.orphan_age"] == str(4 * 3600.0)
    assert options["user"] == (f"{os.getuid()}:{os.getgid()}" if os.getuid() else None)
    assert (engine.started, engine.removed) == ([name], [name])


def test_steps_of_a_task_have_different_containers(engine: DockerEngine, run: Callable[..., StepResult]) -> None:
    run("preprocess")
    run("split")
    assert len(set(engine.started)) == 2
    assert [options["labels"]["ml-pipelines.step"] for options in engine.created] == ["preprocess", "split"]
    assert len({options["labels"]["ml-pipelines.job"] for options in engine.created}) == 2


def test_running_container_is_not_started_again(
    engine: DockerEngine, run: Callable[..., StepResult], make_request: Callable[..., StepRequest]
) -> None:
    engine.put(name := name_of(make_request()), RUNNING)
    engine.started.append(name)
    assert run() == RESULT
    assert (engine.created, engine.started) == ([], [name])


def test_created_container_is_started(
    engine: DockerEngine, run: Callable[..., StepResult], make_request: Callable[..., StepRequest]
) -> None:
    engine.put(name := name_of(make_request()), CREATED)
    assert run() == RESULT
    assert (engine.created, engine.started) == ([], [name])


def test_failed_container_is_replaced(
    engine: DockerEngine, run: Callable[..., StepResult], make_request: Callable[..., StepRequest]
) -> None:
    engine.put(name := name_of(make_request()), FAILED)
    assert run() == RESULT
    assert (len(engine.created), engine.removed) == (1, [name, name])


def test_error_of_the_step_is_raised(engine: DockerEngine, run: Callable[..., StepResult]) -> None:
    engine.document = Failure.from_error(DataError("a single class", fix="more rows")).model_dump_json().encode()
    with pytest.raises(DataError, match="a single class"):
        run()
    assert engine.containers == {}


ENDS: dict[str, tuple[State, type[PipelineError], str, str]] = {
    "memory": (
        FAILED | {"OOMKilled": True, "ExitCode": 137},
        RequestError,
        "the step needs more memory than the limit of its container",
        "killed by the kernel, exit code 137",
    ),
    "killed": (
        FAILED | {"ExitCode": 137},
        TransientError,
        "the container of the step ended without a result",
        "exit code 137, killed from outside",
    ),
    "broken": (FAILED, TransientError, "the container of the step ended without a result", "exit code 1"),
}


@pytest.mark.parametrize("end", ENDS)
def test_exit_without_a_result_raises(engine: DockerEngine, run: Callable[..., StepResult], end: str) -> None:
    state, kind, what, got = ENDS[end]
    engine.states, engine.document = [RUNNING, state], None
    with pytest.raises(kind) as error:
        run()
    assert (type(error.value), error.value.what, error.value.got) == (kind, what, got)
    assert error.value.fix
    assert engine.containers == {}


def test_unreadable_result_raises(engine: DockerEngine, run: Callable[..., StepResult]) -> None:
    engine.document = b'{"outcome": "well"}'
    with pytest.raises(RequestError, match="can't be read"):
        run()


def test_short_outage_of_the_engine_is_tolerated(engine: DockerEngine, run: Callable[..., StepResult]) -> None:
    engine.states = [RUNNING, None, None, DONE]
    assert run() == RESULT


def test_long_outage_of_the_engine_keeps_the_container(
    engine: DockerEngine, run: Callable[..., StepResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "ENGINE_RESTART_SECONDS", 0)
    engine.states = [RUNNING, None]
    with pytest.raises(ServiceUnavailable, match="the engine is unavailable"):
        run()
    assert (len(engine.containers), engine.removed) == (1, [])


def test_outage_of_the_store_keeps_the_container(
    engine: DockerEngine, run: Callable[..., StepResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(self: object, name: str) -> bytes:
        raise StoreUnavailable("the store is unavailable")

    with monkeypatch.context() as patch:
        patch.setattr("ml_pipelines.store.filesystems.local.LocalFileSystem.read", read)
        with pytest.raises(StoreUnavailable):
            run()
    assert engine.removed == []
    assert run() == RESULT
    assert len(engine.created) == 1


@pytest.mark.parametrize(("hours", "removed"), [(0.5, False), (2, True)])
def test_orphans_are_removed(
    engine: DockerEngine, run: Callable[..., StepResult], tmp_path: Path, hours: float, removed: bool
) -> None:
    engine.put("ml-pipelines-other", RUNNING)
    heartbeat = tmp_path / "containers" / "other" / "followed"
    heartbeat.parent.mkdir(parents=True)
    heartbeat.touch()
    moment = (datetime.now(UTC) - timedelta(hours=hours)).timestamp()
    os.utime(heartbeat, (moment, moment))
    run()
    assert ("ml-pipelines-other" in engine.removed) == removed


WORKER = {
    "ML_DATA_TOKEN": "d",
    "ML_DATA_OTHER": "o",
    "AWS_SECRET_ACCESS_KEY": "a",
    "MLFLOW_TRACKING_URI": "http://other",
    "ML_PIPELINES_CONNECTION_HR": "h",
    "OPENBLAS_CORETYPE": "Haswell",
    "AIRFLOW__CORE__FERNET_KEY": "f",
    "PATH": "/bin",
}


@pytest.fixture
def worker_settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in WORKER.items():
        monkeypatch.setenv(name, value)
    return Settings(
        store="s3://b/store",
        tracking_uri="http://mlflow",
        tracking_variables={"MLFLOW_TRACKING_TOKEN": "t"},
        connections={"crm": "sqlite://", "other": "o", "slack": "s"},
        environment=WORKER,
    )


def test_container_environment_has_only_variables_of_the_systems_and_the_source(
    make_request: Callable[..., StepRequest], worker_settings: Settings
) -> None:
    source = {"sql": {"query": "select 1", "url": "${ML_DATA_TOKEN:-x}/y", "connection": "crm"}}
    variables = container_environment(make_request(source=source), worker_settings)
    assert (
        variables.items()
        >= {
            "AWS_SECRET_ACCESS_KEY": "a",
            "ML_DATA_TOKEN": "d",
            "HOME": "/tmp",  # noqa: S108  inside the container
            "MLFLOW_TRACKING_TOKEN": "t",
            "MLFLOW_TRACKING_URI": "http://mlflow",
            "ML_PIPELINES_CONNECTION_CRM": "sqlite://",
            "ML_PIPELINES_STORE": "s3://b/store",
            "OPENBLAS_CORETYPE": "Haswell",
        }.items()
    )
    assert not variables.keys() & {"AIRFLOW__CORE__FERNET_KEY", "PATH", "ML_DATA_OTHER"}
    assert [name for name in variables if name.startswith("ML_PIPELINES_CONNECTION_")] == [
        "ML_PIPELINES_CONNECTION_CRM"
    ]


def test_container_has_no_signing_key(
    make_request: Callable[..., StepRequest], worker_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ML_PIPELINES_SIGNING_KEY", "ab" * 32)
    settings = replace(worker_settings, signing_key="ab" * 32)
    variables = container_environment(make_request(), settings)
    assert "ab" * 32 not in variables.values()
    assert len(variables["ML_PIPELINES_VERIFICATION_KEY"]) == 64


@pytest.mark.parametrize("name", ["AIRFLOW__CORE__FERNET_KEY", "ML_DATA_OTHER"])
def test_only_the_address_of_the_source_names_variables(
    make_request: Callable[..., StepRequest], worker_settings: Settings, name: str
) -> None:
    """A run id, a value of the trigger form or another parameter could come from anybody who may trigger a run."""
    text = f"${{{name}}}"
    source = {"dvc": {"repo": "/data", "path": text, "rev": text}}
    request = make_request(source=source, candidate={"name": text}, alerts={"slack": {"connection": "slack"}})
    identity = request.identity.model_copy(update={"run_id": text})
    variables = container_environment(request.model_copy(update={"identity": identity}), worker_settings)
    assert name not in variables
    assert not [name for name in variables if name.startswith("ML_PIPELINES_CONNECTION_")]


def test_a_step_without_a_source_gets_no_connection(
    make_request: Callable[..., StepRequest], worker_settings: Settings
) -> None:
    variables = container_environment(make_request(connection="crm", data={"connection": "other"}), worker_settings)
    assert not [name for name in variables if name.startswith("ML_PIPELINES_CONNECTION_")]
