"""Run a step in its own container. The store carries the request to the container and the result back.

The name of the container is derived from the request, which contains the run, the task and the step. A retry on another
worker therefore finds the container of the earlier try, and follows it or takes its result.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ml_pipelines._utils.error_json import parse_result
from ml_pipelines.contracts import StepRequest, StepResult
from ml_pipelines.errors import PipelineError, RequestError, ServiceUnavailable, StoreUnavailable, TransientError
from ml_pipelines.runner.signing import sign_result
from ml_pipelines.services.settings import Settings
from ml_pipelines.spec.environment_variables import VARIABLE, is_allowed_variable
from ml_pipelines.spec.placement import Docker
from ml_pipelines.spec.sources import source_class
from ml_pipelines.store.artifact_store import ArtifactStore
from ml_pipelines.store.filesystems.base import FileSystem
from ml_pipelines.store.filesystems.open import open_filesystem
from ml_pipelines.store.layout import container_file
from ml_pipelines_airflow.config import option
from ml_pipelines_airflow.execution.docker_client import Container, DockerEngine

__all__ = ["container_environment", "run_in_container"]

log = logging.getLogger(__name__)

LABEL = "ml-pipelines"
"""Prefix of the containers' names and labels."""
ORPHAN_AGE = timedelta(hours=1)
"""Age of the last heartbeat after which a container is an orphan, unless the retry delay of its task is longer."""
POLL_SECONDS = 0.5
"""Interval at which the state and the log of a container are read."""
ENGINE_RESTART_SECONDS = 60.0
"""Maximum time without an answer of the engine, which may be restarting."""

_HEARTBEAT_SECONDS = 60
_SIGKILL_EXIT_CODE = 137
_CONNECTION_PREFIX = "ML_PIPELINES_CONNECTION_"
# OPENBLAS_: the kernels for another processor change the last digits of a model.
_INHERITED_PREFIXES = ("AWS_", "FSSPEC_", "GIT_", "MLFLOW_", "ML_PIPELINES_", "OPENBLAS_")
# Only /tmp is writable, and the image may not have the user.
_HOME = {"HOME": "/tmp", "DVC_SITE_CACHE_DIR": "/tmp/dvc", "USER": LABEL}  # noqa: S108


@dataclass(frozen=True, slots=True)
class _Job:
    """A request with the digest that names its container and its files in the store."""

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

    def send_heartbeat(self) -> None:
        """Record that a worker follows the container."""
        with suppress(StoreUnavailable):  # the step itself fails if the store stays unavailable
            self.files.write(container_file(self.digest, "followed"), b"")


def run_in_container(request: StepRequest, settings: Settings, *, docker: Docker, ti: Any) -> StepResult:
    """Run a step in a container and copy its log into that of the task.

    Args:
        request: the request.
        settings: addresses of the systems. The credentials become variables of the container and nothing else.
        docker: image and limits.
        ti: the running task instance. From now on, `on_kill` of its task removes the container.

    Raises:
        PipelineError: the error of the step, or an error of the engine, the image or a limit.
    """
    job, engine = _Job.of(request), DockerEngine()
    _remove_orphans(engine, job)
    container = _find_earlier(engine, job) or _create(engine, job, settings, docker, ti)
    ti.task.on_kill = lambda: DockerEngine().remove(job.container)
    try:
        if container.state["Status"] == "created":
            engine.start(job.container)
        state = _follow(engine, job)
        document = job.files.read(container_file(job.digest, container.labels[f"{LABEL}.result"]))
    except (ServiceUnavailable, StoreUnavailable):
        # The container continues, and the next try follows it or takes its result.
        raise
    except BaseException:  # also a timeout, which is not an Exception
        log.warning("the container %s is removed", job.container)
        engine.remove(job.container)
        raise
    engine.remove(job.container)
    result = _parse(document, state, docker)
    if (keys := settings.manifest_keys) and keys.can_sign:
        sign_result(request, result, ArtifactStore(request.store, keys=keys))
    return result


def container_environment(request: StepRequest, settings: Settings) -> dict[str, str]:
    """Return the environment of the container, which contains secrets and must not be logged.

    It consists of the settings and the worker's variables with the prefixes of the systems. The declared source of the
    step adds the connection and the variables that it names. Other texts of the request, such as the run id or a value
    of the trigger form, name nothing.
    """
    names, connections = _source_names(request.parameters.get("source"))
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(_INHERITED_PREFIXES) and not name.startswith(_CONNECTION_PREFIX)
    }
    declared = {name: settings.environment[name] for name in names if name in settings.environment}
    own = settings.as_environment(*connections)
    return {**_HOME, **inherited, **declared, **own, "PYTHONUNBUFFERED": "1"}


def _source_names(source: Any) -> tuple[list[str], list[str]]:
    """Return the environment variables and the connections that a source `{kind: fields}` names."""
    variables: list[str] = []
    connections: list[str] = []
    for kind, fields in source.items() if isinstance(source, dict) else ():
        address = fields.get(source_class(kind).address_field)
        variables += [match[1] for match in VARIABLE.finditer(address or "") if is_allowed_variable(match[1])]
        connections += [fields["connection"]] if fields.get("connection") else []
    return variables, connections


def _find_earlier(engine: DockerEngine, job: _Job) -> Container | None:
    """Return the container of an earlier try that runs or has a result, else None."""
    container = engine.find(job.container)
    if container is None:
        return None
    if container.ended and container.state["ExitCode"]:
        engine.remove(job.container)
        return None
    log.info("following the container %s of an earlier try", job.container)
    return container


def _create(engine: DockerEngine, job: _Job, settings: Settings, docker: Docker, ti: Any) -> Container:
    """Return a new container, or the one that another worker has created for the same request."""
    image = docker.image or option("docker_image")
    request, result = container_file(job.digest, "request.json"), f"{secrets.token_hex(8)}.json"
    job.files.write(request, job.request.model_dump_json().encode())
    job.send_heartbeat()
    result_uri = f"{job.files.uri}/{container_file(job.digest, result)}"
    created = engine.create(
        job.container,
        image=image,
        entrypoint=["ml-pipelines"],
        command=["run-step", "--request", f"{job.files.uri}/{request}", "--result", result_uri],
        environment=container_environment(job.request, settings),
        labels=_labels(job, result, ti),
        # The user of the worker, so that workers can read and remove the files; never root.
        user=f"{os.getuid()}:{os.getgid()}" if os.getuid() else None,
        working_dir="/tmp",  # noqa: S108  inside the container
        limits={
            "mem_limit": docker.memory_bytes,
            "memswap_limit": docker.memory_bytes,
            "nano_cpus": int(docker.cpus * 1e9),
            "network_mode": option("docker_network") or None,
            "binds": [volume.strip() for volume in option("docker_volumes").split(",") if volume.strip()],
        },
    )
    if created:
        log.info("container %s of %s: %s, %s CPUs", job.container, image, docker.memory, f"{docker.cpus:g}")
    container = engine.find(job.container)
    if container is None:
        raise _missing_error()
    return container


def _labels(job: _Job, result: str, ti: Any) -> dict[str, str]:
    identity = job.request.identity
    orphan_age = max(ORPHAN_AGE, 2 * (ti.task.retry_delay or timedelta(0)))
    labels = {
        "store": job.request.store,
        "pipeline": identity.pipeline,
        "run": identity.run_id,
        "task": identity.task_id,
        "step": job.request.step,
        "map_index": identity.map_index,
        "try": ti.try_number,
        "job": job.digest,
        "result": result,
        "orphan_age": orphan_age.total_seconds(),
    }
    return {f"{LABEL}.{name}": str(value) for name, value in labels.items()}


def _remove_orphans(engine: DockerEngine, job: _Job) -> None:
    """Remove the containers of the same store without a recent heartbeat, running or not."""
    for container in engine.labelled(f"{LABEL}.store={job.request.store}"):
        digest = container.labels[f"{LABEL}.job"]
        if digest == job.digest:
            continue
        heartbeat = job.files.stat(container_file(digest, "followed"))
        age = datetime.now(UTC) - (heartbeat.modified if heartbeat else container.created)
        if age.total_seconds() > float(container.labels[f"{LABEL}.orphan_age"]):
            log.warning("the container %s is removed: its last heartbeat was %s ago", container.name, age)
            engine.remove(container.name)


def _follow(engine: DockerEngine, job: _Job) -> dict[str, Any]:
    """Copy the log until the container has ended, and return its state; empty if the container is gone."""
    last_line, last_beat, last_answer = "", float("-inf"), time.monotonic()
    while True:
        if time.monotonic() - last_beat > _HEARTBEAT_SECONDS:
            job.send_heartbeat()
            last_beat = time.monotonic()
        try:
            container = engine.find(job.container)
            if container is None:
                return {}
            for stamp, line in engine.log_after(job.container, last_line):
                last_line = stamp
                log.info("%s", line)
            last_answer = time.monotonic()
        except ServiceUnavailable:
            # An engine or a proxy may be restarting.
            if time.monotonic() - last_answer > ENGINE_RESTART_SECONDS:
                raise
        else:
            if container.ended:
                return container.state
        time.sleep(POLL_SECONDS)


def _parse(document: bytes | None, state: dict[str, Any], docker: Docker) -> StepResult:
    """Return the result of a container.

    Raises:
        PipelineError: the error of the step, or the reason for a missing result.
    """
    if document is not None:
        try:
            return parse_result(document)
        except ValueError as exc:
            raise _unreadable_error(exc) from exc
    if not state:
        raise _missing_error()
    raise _exit_error(state, docker)


def _exit_error(state: dict[str, Any], docker: Docker) -> PipelineError:
    code = state["ExitCode"]
    if state["OOMKilled"]:
        return RequestError(
            "the step needs more memory than the limit of its container",
            expected=f"at most {docker.memory}",
            got=f"killed by the kernel, exit code {code}",
            fix="raise memory under runtime.<task>.docker in the declaration",
        )
    signal = ", killed from outside" if code == _SIGKILL_EXIT_CODE else ""
    return TransientError(
        "the container of the step ended without a result",
        expected="a result, or an error of the step",
        got=f"exit code {code}{signal} {state.get('Error', '')}".strip(),
        fix="read the last lines of the container in this log",
    )


def _missing_error() -> TransientError:
    return TransientError(
        "the container of the step is gone",
        expected="a container that runs until it has written a result",
        got="no container and no result",
        fix="nothing, if it was removed on purpose; a retry starts a new container",
    )


def _unreadable_error(exc: ValueError) -> RequestError:
    return RequestError(
        "the container of the step has written a result that can't be read",
        expected="a result of this version",
        got=str(exc),
        fix="build the training image from the version of the workers",
    )
