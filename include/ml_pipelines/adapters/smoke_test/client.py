"""Try a registered model in a process of its own.

The process gets the model's bytes and the rows by its standard input, and answers with JSON. It has no credentials: its
environment has only what an interpreter and its numerical libraries look at. It is a new interpreter, with nothing
imported that the model's own file does not need; or, on a worker that has everything imported, a fork, which takes a
tenth of the time.
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

from ml_pipelines._utils.failure import Failure
from ml_pipelines.errors import ServiceUnavailable, VerificationFailed
from ml_pipelines.ports import ModelVersion

__all__ = ["SECONDS", "predict_in_fork", "predict_in_process", "start"]

SECONDS = 600.0  # it takes some three on an idle machine, most of them for imports
_LAST_WORDS = 2000
_PASSED_ON = (
    "HOME",
    "LANG",
    "LC_",
    "LD_",
    "MKL_",
    "OMP_",
    "OPENBLAS_",
    "PATH",
    "PYTHON",
    "TMPDIR",
    "TZ",
    "VIRTUAL_ENV",
)


def start() -> subprocess.Popen[bytes]:
    """The process, which imports what models need, waits to be asked, and ends when nobody is left who could ask."""
    return subprocess.Popen(
        # -P: what lies in the working directory is not imported.
        [sys.executable, "-P", "-m", "ml_pipelines.adapters.smoke_test.worker"],
        env=_environment(),
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
    """What a model answers to the smoke rows of its training.

    Args:
        version: to try.
        data: the bytes of its file.
        training: the record of its training.
        process: one that has been started and not been asked; None starts one.
        seconds: how long that may take.

    Raises:
        ArtifactCorrupt: the process got other bytes than were registered.
        VerificationFailed: the model can't predict, or the process has died.
        ServiceUnavailable: it took too long.
    """
    asked = _question(version, training)
    with process or start() as waiting:
        try:
            answer, words = waiting.communicate(json.dumps(asked).encode() + b"\n" + data, timeout=seconds)
        except subprocess.TimeoutExpired as exc:
            waiting.kill()
            raise _late(asked["where"], seconds) from exc
    return _predictions(answer, asked["where"], waiting.returncode, words.decode(errors="replace"))


def predict_in_fork(
    version: ModelVersion, data: bytes, training: Mapping[str, Any], *, seconds: float = SECONDS
) -> list[Any]:
    """The same, asked of a fork of this process, which has imported what models need and computed nothing yet.

    A fork has no threads but one, so whatever has started some must not be forked: see :func:`answers`, which also
    tells the arguments and errors.
    """
    asked = _question(version, training)
    reading, writing = os.pipe()
    fork = os.fork()
    if fork == 0:
        _answer(writing, asked, data, seconds)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as told:
            answer = told.read()
    except BaseException:
        os.kill(fork, signal.SIGKILL)
        os.waitpid(fork, 0)
        raise
    code = os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1])
    if code == -signal.SIGALRM:
        raise _late(asked["where"], seconds)
    return _predictions(answer, asked["where"], code, "its last words are in the log of this task")


def _answer(writing: int, asked: dict[str, Any], data: bytes, seconds: float) -> NoReturn:
    """What the fork does; nothing that its parent would do at its own end is done twice.

    `multiprocessing` does not let a worker of Celery have children.
    """
    code = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        kept = _environment()
        os.environ.clear()
        os.environ.update(kept)
        from ml_pipelines.adapters.smoke_test.worker import respond

        with os.fdopen(writing, "wb") as answer:
            answer.write(json.dumps(respond(asked, data)).encode())
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}


def _question(version: ModelVersion, training: Mapping[str, Any]) -> dict[str, Any]:
    where = f"model {version.model}, version {version.version}"
    return {"where": where, "sha256": version.artifact and version.artifact.sha256, "training": dict(training)}


def _late(where: str, seconds: float) -> ServiceUnavailable:
    return ServiceUnavailable(
        "trying the model took too long",
        where=where,
        expected=f"predictions within {seconds:g} s",
        got="none",
        fix="see that this machine is not overloaded, then try again",
    )


def _predictions(answer: bytes, where: str, code: int | None, last_words: str) -> list[Any]:
    try:
        told = json.loads(answer)
    except ValueError as exc:
        raise VerificationFailed(
            "the process that tried the model has died",
            where=where,
            expected="predictions",
            got=f"exit code {code}: {last_words.strip()[-_LAST_WORDS:]}",
            fix="mend what it says; after a kill by the system give the worker more memory",
        ) from exc
    if "error" in told:
        raise Failure.model_validate(told["error"]).to_error()
    return list(told["predictions"])
