"""Run a step in a container of its own: the same request, and the result by a file that both see in the store.

The container's name is made from the request, so there is one for a task whatever becomes of its worker: the next try
finds it and follows it, or takes over the result that it has left.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ml_pipelines._utils.failure import parse_result
from ml_pipelines.contracts import StepRequest, StepResult
from ml_pipelines.errors import PipelineError, RequestError, ServiceUnavailable, StoreUnavailable, TransientError
from ml_pipelines.services.settings import Settings
from ml_pipelines.spec.execution import Docker
from ml_pipelines.store.filesystems.base import FileSystem
from ml_pipelines.store.filesystems.open import open_filesystem
from ml_pipelines.store.layout import container_file
from ml_pipelines_airflow.config import option
from ml_pipelines_airflow.execution.docker_client import Container, DockerEngine

__all__ = ["container_environment", "run_in_container"]

log = logging.getLogger(__name__)

LABEL = "ml-pipelines"
ABANDONED = timedelta(hours=1)
"""A container that nobody has followed for so long is an orphan, if the task's retry does not take longer."""

_POLL_SECONDS = 0.5
_HEARTBEAT_SECONDS = 60
_ENGINE_AWAY_SECONDS = 60
_KILLED = 137
# OPENBLAS_: with kernels for another processor the last digits of a model are others.
_PASSED_ON = ("AWS_", "FSSPEC_", "GIT_", "MLFLOW_", "ML_PIPELINES_", "OPENBLAS_")
# Nothing but /tmp can be written to, and the user need not be one that the image knows.
_HOME = {"HOME": "/tmp", "DVC_SITE_CACHE_DIR": "/tmp/dvc", "USER": LABEL}  # noqa: S108


@dataclass(frozen=True, slots=True)
class _Job:
    """What is handed to a container, and where."""

    request: StepRequest
    files: FileSystem
    digest: str

    @classmethod
    def of(cls, request: StepRequest) -> _Job:
        digest = hashlib.sha256(request.model_dump_json().encode()).hexdigest()[:32]
        return cls(request, open_filesystem(request.store), digest)

    @property
    def container(self) -> str:
        return f"{LABEL}-{self.digest}"

    def heard_of(self) -> None:
        """Note that somebody follows the container."""
        with suppress(StoreUnavailable):  # the work itself will tell, if the store stays away
            self.files.write(container_file(self.digest, "followed"), b"")


def run_in_container(request: StepRequest, where: Settings, *, docker: Docker, ti: Any) -> StepResult:
    """Run a step in a container and follow it; its log goes into the task's.

    Args:
        request: what to do.
        where: the systems; credentials go into the container's environment, and nowhere else.
        docker: image and limits.
        ti: the running task instance. Its task's `on_kill` ends the container from now on.

    Raises:
        PipelineError: the step's own error; or that there is no engine or image, or that a limit was reached.
    """
    job, engine = _Job.of(request), DockerEngine()
    _reap(engine, job)
    found = _left(engine, job) or _made(engine, job, where, docker, ti)
    ti.task.on_kill = lambda: DockerEngine().remove(job.container)
    try:
        if found.state["Status"] == "created":
            engine.start(job.container)
        state = _follow(engine, job)
        document = job.files.read(container_file(job.digest, found.labels[f"{LABEL}.result"]))
    except (ServiceUnavailable, StoreUnavailable):
        # It runs on or keeps its result, and the next try finds it.
        raise
    except BaseException:  # also a timeout, which is no Exception
        log.warning("the container %s is removed", job.container)
        engine.remove(job.container)
        raise
    engine.remove(job.container)
    return _result(document, state, docker)


def container_environment(request: StepRequest, where: Settings) -> dict[str, str]:
    """The variables of the container. Secret: they are given to the engine, and never logged.

    What the systems' names begin with is passed on from the worker, and what the request itself names: `${NAME}`, and
    the connection that data is read with.
    """
    text = request.model_dump_json()
    named = set(re.findall(r"\$\{([A-Za-z_]\w*)", text))
    passed = {name: value for name, value in where.environment.items() if name.startswith(_PASSED_ON) or name in named}
    own = where.as_environment(*_connections(request.parameters))
    return {**_HOME, **passed, **own, "PYTHONUNBUFFERED": "1"}


def _connections(parameters: Any) -> Iterator[str]:
    for name, value in parameters.items():
        if name == "connection" and isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from _connections(value)


def _left(engine: DockerEngine, job: _Job) -> Container | None:
    """The container that an earlier try has left, if its result is still to come or is there."""
    found = engine.find(job.container)
    if found is None:
        return None
    if found.ended and found.state["ExitCode"]:
        engine.remove(job.container)
        return None
    log.info("an earlier try has started the container %s: it is followed", job.container)
    return found


def _made(engine: DockerEngine, job: _Job, where: Settings, docker: Docker, ti: Any) -> Container:
    """A new container; or the one that somebody else has made for the same request meanwhile."""
    image = docker.image or option("docker_image")
    request, result = container_file(job.digest, "request.json"), f"{secrets.token_hex(8)}.json"
    job.files.write(request, job.request.model_dump_json().encode())
    job.heard_of()
    address = f"{job.files.uri}/{container_file(job.digest, result)}"
    made = engine.create(
        job.container,
        image=image,
        entrypoint=["ml-pipelines"],
        command=["run-step", "--request", f"{job.files.uri}/{request}", "--result", address],
        environment=container_environment(job.request, where),
        labels=_labels(job, result, ti),
        # As the worker's user, whose files are then everybody's; never as root.
        user=f"{os.getuid()}:{os.getgid()}" if os.getuid() else None,
        working_dir="/tmp",  # noqa: S108  the container's own
        limits={
            "mem_limit": docker.memory_bytes,
            "memswap_limit": docker.memory_bytes,
            "nano_cpus": int(docker.cpus * 1e9),
            "network_mode": option("docker_network") or None,
            "binds": [each.strip() for each in option("docker_volumes").split(",") if each.strip()],
        },
    )
    if made:
        log.info("container %s of %s: %s, %s CPUs", job.container, image, docker.memory, f"{docker.cpus:g}")
    found = engine.find(job.container)
    if found is None:
        raise _gone()
    return found


def _labels(job: _Job, result: str, ti: Any) -> dict[str, str]:
    who = job.request.identity
    patience = max(ABANDONED, 2 * (ti.task.retry_delay or timedelta(0)))
    said = {
        "store": job.request.store,
        "pipeline": who.pipeline,
        "run": who.run_id,
        "task": who.task_id,
        "map_index": who.map_index,
        "try": ti.try_number,
        "job": job.digest,
        "result": result,
        "patience": patience.total_seconds(),
    }
    return {f"{LABEL}.{name}": str(value) for name, value in said.items()}


def _reap(engine: DockerEngine, mine: _Job) -> None:
    """Remove the containers of the same store that nobody follows any more, running or not."""
    for each in engine.labelled(f"{LABEL}.store={mine.request.store}"):
        job = each.labels[f"{LABEL}.job"]
        if job == mine.digest:
            continue
        entry = mine.files.stat(container_file(job, "followed"))
        silent = datetime.now(UTC) - (entry.modified if entry else each.created)
        if silent.total_seconds() > float(each.labels[f"{LABEL}.patience"]):
            log.warning("the container %s is removed: nobody has followed it for %s", each.name, silent)
            engine.remove(each.name)


def _follow(engine: DockerEngine, job: _Job) -> dict[str, Any]:
    """The engine's state of a container that has ended; empty if it is gone."""
    told, beaten, answered = "", float("-inf"), time.monotonic()
    while True:
        if time.monotonic() - beaten > _HEARTBEAT_SECONDS:
            job.heard_of()
            beaten = time.monotonic()
        try:
            found = engine.find(job.container)
            if found is None:
                return {}
            for at, line in engine.log_after(job.container, told):
                told = at
                log.info("%s", line)
            answered = time.monotonic()
        except ServiceUnavailable:
            # An engine or a proxy that is started again.
            if time.monotonic() - answered > _ENGINE_AWAY_SECONDS:
                raise
        else:
            if found.ended:
                return found.state
        time.sleep(_POLL_SECONDS)


def _result(document: bytes | None, state: dict[str, Any], docker: Docker) -> StepResult:
    """What came of a container.

    Raises:
        PipelineError: the step's error, or why there is no result.
    """
    if document is not None:
        try:
            return parse_result(document)
        except ValueError as exc:
            raise _unreadable(exc) from exc
    if not state:
        raise _gone()
    raise _broken(state, docker)


def _broken(state: dict[str, Any], docker: Docker) -> PipelineError:
    code = state["ExitCode"]
    if state["OOMKilled"]:
        return RequestError(
            "the step needs more memory than its container may have",
            expected=f"at most {docker.memory}",
            got=f"killed by the kernel, exit code {code}",
            fix="raise memory under runtime.<task>.docker in the declaration",
        )
    return TransientError(
        "the step's container has ended without a result",
        expected="a result, or an error of the step",
        got=f"exit code {code}{', killed from outside' if code == _KILLED else ''} {state.get('Error', '')}".strip(),
        fix="see its last lines in this log",
    )


def _gone() -> TransientError:
    return TransientError(
        "the step's container is gone",
        expected="a container that runs until it has left a result",
        got="none, and no result",
        fix="nothing, if it was removed on purpose; another try starts a new one",
    )


def _unreadable(exc: ValueError) -> RequestError:
    return RequestError(
        "the step's container has left something else than a result",
        expected="the document of this version",
        got=str(exc),
        fix="build the training image from the version that the workers have",
    )
