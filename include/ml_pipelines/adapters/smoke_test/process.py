"""Smoke test of a registered model in a process of its own.

The process reads the model's bytes and the rows from its standard input and returns JSON. Its environment holds no
credentials, only variables of the interpreter and the numerical libraries. The process is a new interpreter, or on a
worker with everything imported a fork, which takes a tenth of the time.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping
from typing import Any, NoReturn

from ml_pipelines._utils.error_json import Failure
from ml_pipelines._utils.process import environment_without_credentials
from ml_pipelines.errors import ServiceUnavailable, VerificationFailed
from ml_pipelines.ports import ModelVersion

__all__ = ["SECONDS", "predict_in_fork", "predict_in_process", "start"]

SECONDS = 600.0  # about three on an idle machine, most of them for imports
_STDERR_CHARACTERS = 2000


def start() -> subprocess.Popen[bytes]:
    """Start the process. It imports the ML libraries, waits for one request, and ends with this process."""
    return subprocess.Popen(
        # -P: no imports from the working directory.
        [sys.executable, "-P", "-m", "ml_pipelines.adapters.smoke_test.worker"],
        env=environment_without_credentials(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def predict_in_process(
    version: ModelVersion,
    data: bytes,
    training: Mapping[str, Any],
    *,
    process: subprocess.Popen[bytes] | None = None,
    seconds: float = SECONDS,
) -> list[Any]:
    """Return the predictions of a model for the smoke rows of its training, from a new interpreter.

    Args:
        version: version to test.
        data: the bytes of its model file.
        training: its training record.
        process: a started process without a request; None starts one.
        seconds: time limit.

    Raises:
        ArtifactCorrupt: the process got other bytes than were registered.
        VerificationFailed: the model can't predict, or the process has died.
        ServiceUnavailable: it took too long.
    """
    request = _request(version, training)
    with process or start() as waiting:
        try:
            response, stderr = waiting.communicate(json.dumps(request).encode() + b"\n" + data, timeout=seconds)
        except subprocess.TimeoutExpired as exc:
            waiting.kill()
            raise _late(request["where"], seconds) from exc
    return _predictions(response, request["where"], waiting.returncode, stderr.decode(errors="replace"))


def predict_in_fork(
    version: ModelVersion, data: bytes, training: Mapping[str, Any], *, seconds: float = SECONDS
) -> list[Any]:
    """Return the same from a fork of this process, which has imported the ML libraries and computed nothing yet.

    A fork has one thread only, so a process with other threads must not be forked. Arguments and errors as of
    :func:`predict_in_process`.
    """
    request = _request(version, training)
    reading, writing = os.pipe()
    fork = os.fork()
    if fork == 0:
        _respond_in_fork(writing, request, data, seconds)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as stream:
            response = stream.read()
    except BaseException:
        os.kill(fork, signal.SIGKILL)
        os.waitpid(fork, 0)
        raise
    code = os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1])
    if code == -signal.SIGALRM:
        raise _late(request["where"], seconds)
    return _predictions(response, request["where"], code, "its error output is in the log of this task")


def _respond_in_fork(writing: int, request: dict[str, Any], data: bytes, seconds: float) -> NoReturn:
    """Run the smoke test in the fork, and end it without the exit handlers of its parent.

    `multiprocessing` does not allow children of a Celery worker.
    """
    code = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        kept = environment_without_credentials()
        os.environ.clear()
        os.environ.update(kept)
        from ml_pipelines.adapters.smoke_test.worker import respond

        with os.fdopen(writing, "wb") as response:
            response.write(json.dumps(respond(request, data)).encode())
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _request(version: ModelVersion, training: Mapping[str, Any]) -> dict[str, Any]:
    where = f"model {version.model}, version {version.version}"
    return {"where": where, "sha256": version.artifact and version.artifact.sha256, "training": dict(training)}


def _late(where: str, seconds: float) -> ServiceUnavailable:
    return ServiceUnavailable(
        "the smoke test took too long",
        where=where,
        expected=f"predictions within {seconds:g} s",
        got="none",
        fix="check the load of this machine, then try again",
    )


def _predictions(response: bytes, where: str, code: int | None, stderr: str) -> list[Any]:
    try:
        document = json.loads(response)
    except ValueError as exc:
        raise VerificationFailed(
            "the process of the smoke test has died",
            where=where,
            expected="predictions",
            got=f"exit code {code}: {stderr.strip()[-_STDERR_CHARACTERS:]}",
            fix="correct what the message names; after a kill by the system give the worker more memory",
        ) from exc
    if "error" in document:
        raise Failure.model_validate(document["error"]).to_error()
    return list(document["predictions"])
