"""The process is real; the model is a small one."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier

from ml_pipelines.adapters.smoke_test import worker as rehearsing
from ml_pipelines.adapters.smoke_test.process import predict_in_fork, predict_in_process, start
from ml_pipelines.contracts import ArtifactRef
from ml_pipelines.errors import ArtifactCorrupt, ModelError, ServiceUnavailable, VerificationFailed
from ml_pipelines.modeling.serialization import dump_model
from ml_pipelines.ports import ModelVersion

# Newer Pythons say so of a fork of a process with threads, as that of the tests is.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

TRAINING = {
    "task": "classification",
    "classes": [0, 1],
    "positive": 1,
    "features": [{"name": "x", "dtype": "float"}],
    "smoke": {"rows": [{"x": 1.0}, {"x": 2.0}], "predictions": [0.25, 0.25]},
}


@pytest.fixture(scope="module")
def data() -> bytes:
    frame = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0]})
    return dump_model(DummyClassifier(strategy="prior").fit(frame, np.array([0, 0, 0, 1])))


def version(data: bytes) -> ModelVersion:
    digest = hashlib.sha256(data).hexdigest()
    return ModelVersion("m", "7", ArtifactRef(uri="file:///m", sha256=digest, bytes=len(data), kind="model"))


def test_a_model_predicts_in_a_process_without_credentials(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    popen = subprocess.Popen

    def spy(command: list[str], **options: Any) -> Any:
        seen.update(options, command=command)
        return popen(command, **options)

    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "s3cret")
    monkeypatch.setenv("AIRFLOW_CONN_X", "s3cret")
    monkeypatch.setattr(subprocess, "Popen", spy)
    assert predict_in_process(version(data), data, TRAINING) == pytest.approx([0.25, 0.25])
    assert "PATH" in seen["env"]
    assert "s3cret" not in str(seen["env"]) + str(seen["command"])


def test_a_process_that_was_started_before_is_asked(data: bytes) -> None:
    waiting = start()
    assert predict_in_process(version(data), data, TRAINING, process=waiting) == pytest.approx([0.25, 0.25])
    assert waiting.returncode == 0


def test_a_process_that_nobody_asks_ends_without_a_word() -> None:
    with start() as waiting:
        assert waiting.communicate() == (b"", b"")
    assert waiting.returncode == 0


def test_a_fork_has_no_credentials_and_leaves_its_parent_alone(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def respond(asked: dict[str, Any], data: bytes) -> dict[str, Any]:
        return {"predictions": [os.environ.get("AIRFLOW_CONN_X", "nothing"), os.getppid(), asked["where"]]}

    monkeypatch.setenv("AIRFLOW_CONN_X", "s3cret")
    monkeypatch.setattr(rehearsing, "respond", respond)
    assert predict_in_fork(version(data), data, TRAINING) == ["nothing", os.getpid(), "model m, version 7"]
    assert os.environ["AIRFLOW_CONN_X"] == "s3cret"


def test_a_fork_that_dies_is_told(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsing, "respond", lambda *_: os._exit(3))
    with pytest.raises(VerificationFailed, match="the process of the smoke test has died") as caught:
        predict_in_fork(version(data), data, TRAINING)
    assert caught.value.got == "exit code 3: its error output is in the log of this task"


def test_a_fork_that_takes_too_long_is_ended(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    forks: list[int] = []
    fork = os.fork
    monkeypatch.setattr(os, "fork", lambda: forks.append(fork()) or forks[-1])
    monkeypatch.setattr(rehearsing, "respond", lambda *_: signal.pause())
    with pytest.raises(ServiceUnavailable, match="the smoke test took too long") as caught:
        predict_in_fork(version(data), data, TRAINING, seconds=0.05)
    assert caught.value.expected == "predictions within 0.05 s"
    with pytest.raises(ChildProcessError):
        os.waitpid(forks[0], os.WNOHANG)


def test_a_fork_of_a_warm_process_tries_the_model(data: bytes) -> None:
    """In a process that has computed nothing, as a task has not: here, pools of threads may have been started."""
    code = (
        "import sys, ml_pipelines.modeling.skops_import, ml_pipelines.modeling.features\n"
        "from ml_pipelines.adapters.smoke_test.process import predict_in_fork\n"
        "from ml_pipelines.errors import ArtifactCorrupt\n"
        "from tests.unit.ml_pipelines.adapters.smoke_test.test_process import TRAINING, version\n"
        "data = sys.stdin.buffer.read()\n"
        "assert predict_in_fork(version(data), data, TRAINING) == [0.25, 0.25]\n"
        "try:\n"
        "    predict_in_fork(version(data), data[:-1], TRAINING)\n"
        "except ArtifactCorrupt as error:\n"
        "    print(error.where)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    assert done.stdout == b"model m, version 7\n"


def test_other_bytes_are_not_loaded(data: bytes) -> None:
    with pytest.raises(ArtifactCorrupt, match="the bytes of the model are not those that were registered") as caught:
        predict_in_process(version(data), data[:-1], TRAINING)
    assert caught.value.where == "model m, version 7"
    assert caught.value.fix.startswith("try again; if it fails again")


def test_what_is_no_model_is_told_as_it_would_be_here() -> None:
    with pytest.raises(ModelError):
        predict_in_process(version(b"no model"), b"no model", TRAINING)


def test_a_model_that_fails_to_predict_is_told(data: bytes) -> None:
    training = {**TRAINING, "features": [{"name": "x"}]}
    with pytest.raises(VerificationFailed, match="the registered model can't predict") as caught:
        predict_in_process(version(data), data, training)
    assert caught.value.expected == "predictions for the rows stored at training"
    assert caught.value.got == "KeyError: 'dtype'"


def test_a_process_that_takes_too_long_is_ended(data: bytes) -> None:
    with pytest.raises(ServiceUnavailable, match="the smoke test took too long") as caught:
        predict_in_process(version(data), data, TRAINING, seconds=0.001)
    assert caught.value.expected == "predictions within 0.001 s"


def test_a_process_that_dies_leaves_its_last_words(data: bytes) -> None:
    command = [sys.executable, "-c", "import os, sys; sys.stderr.write('out of\\nmemory\\n'); os.abort()"]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with pytest.raises(VerificationFailed, match="the process of the smoke test has died") as caught:
        predict_in_process(version(data), data, TRAINING, process=subprocess.Popen(command, **pipes))
    assert caught.value.got == "exit code -6: out of\nmemory"
    assert caught.value.fix.endswith("give the worker more memory")
