"""Try a registered model in a process of its own, with nothing imported that its own file does not need.

The process gets the model's bytes and the rows by its standard input, and answers with JSON. It has no credentials: its
environment has only what an interpreter and its numerical libraries look at.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from ml_pipelines import errors
from ml_pipelines.errors import PipelineError, ServiceUnavailable, VerificationFailed
from ml_pipelines.ports import ModelVersion

__all__ = ["SECONDS", "answers"]

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


def answers(version: ModelVersion, data: bytes, training: Mapping[str, Any], *, seconds: float = SECONDS) -> list[Any]:
    """What a model answers to the smoke rows of its training.

    Args:
        version: to try.
        data: the bytes of its file.
        training: the record of its training.
        seconds: how long that may take.

    Raises:
        ArtifactCorrupt: the process got other bytes than were registered.
        VerificationFailed: the model can't predict, or the process has died.
        ServiceUnavailable: it took too long.
    """
    where = f"model {version.model}, version {version.version}"
    asked = {"where": where, "sha256": version.artifact and version.artifact.sha256, "training": dict(training)}
    try:
        done = subprocess.run(
            # -P: what lies in the working directory is not imported.
            [sys.executable, "-P", "-m", "ml_pipelines.adapters.rehearsing"],
            input=json.dumps(asked).encode() + b"\n" + data,
            env={name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)},
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise ServiceUnavailable(
            "trying the model took too long",
            where=where,
            expected=f"predictions within {seconds:g} s",
            got="none",
            fix="see that this machine is not overloaded, then try again",
        ) from exc
    return _predictions(done, where)


def _predictions(done: subprocess.CompletedProcess[bytes], where: str) -> list[Any]:
    try:
        answer = json.loads(done.stdout)
    except ValueError as exc:
        raise VerificationFailed(
            "the process that tried the model has died",
            where=where,
            expected="predictions",
            got=f"exit code {done.returncode}: {done.stderr.decode(errors='replace').strip()[-_LAST_WORDS:]}",
            fix="mend what it says; after a kill by the system give the worker more memory",
        ) from exc
    if "error" in answer:
        raise _rebuilt(answer["error"])
    return list(answer["predictions"])


def _rebuilt(told: dict[str, str]) -> PipelineError:
    kind: type[PipelineError] = getattr(errors, told.pop("kind"))
    return kind(told.pop("what"), **told)
