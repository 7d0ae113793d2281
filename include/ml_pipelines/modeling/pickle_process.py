"""A process without credentials that holds a pickled estimator and predicts.

The estimator's code runs in the process, so it sees neither the store, MLflow and the ledger's passwords nor those of
Airflow. The answers are numbers and labels in JSON or in NumPy's format without objects: nothing that the process
writes is unpickled.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import threading
import weakref
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ml_pipelines._utils.process import environment_without_credentials
from ml_pipelines.errors import ModelError

__all__ = ["ARRAY", "ERROR", "LABELS", "PickleProcess", "read_message", "write_message"]

ARRAY, LABELS, ERROR = b"a", b"l", b"e"
"""The kinds of answers: a NumPy array, a JSON list of labels, and the text of an exception."""

_LENGTH = struct.Struct(">Q")


class PickleProcess:
    """The estimator of a pickle, in a process of its own that ends with this object.

    Args:
        path: import path of the estimator's class, for messages.
        data: the pickle.
    """

    def __init__(self, path: str, data: bytes) -> None:
        self._path = path
        self._data = data
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the predictions of the estimator for n rows, shape (n,).

        Raises:
            ModelError: the estimator can't be unpickled, it raised an exception, or the process has died.
        """
        return self._ask("predict", X)

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Return the probability of each class, shape (n, classes); raises as :meth:`predict`."""
        return self._ask("predict_proba", X)

    def _ask(self, method: str, X: Any) -> NDArray[Any]:
        with self._lock:
            # A fork has the pipes of its parent, and must not share them.
            if self._process is None or self._owner != os.getpid():
                self._start()
            kind, answer = self._exchange(pickle.dumps((method, X), protocol=5))
        if kind == ERROR:
            raise ModelError(
                f"{self._path} fails in the process that loads its pickle",
                expected=f"the result of {method}",
                got=answer.decode(),
                fix="correct the code of the estimator; it needs the package versions that it was trained with",
            )
        if kind == LABELS:
            return np.asarray(json.loads(answer))
        array: NDArray[Any] = np.load(io.BytesIO(answer), allow_pickle=False)
        return array

    def _start(self) -> None:
        self._process = subprocess.Popen(
            # -P: no imports from the working directory.
            [sys.executable, "-P", "-m", "ml_pipelines.modeling.pickle_worker"],
            env=environment_without_credentials(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._owner = os.getpid()
        weakref.finalize(self, _stop, self._process, self._owner)
        self._send(self._data)

    def _exchange(self, request: bytes) -> tuple[bytes, bytes]:
        process = self._running()
        self._send(request)
        answer = read_message(process.stdout) if process.stdout else None
        if answer is None:
            raise self._death()
        return answer[:1], answer[1:]

    def _send(self, message: bytes) -> None:
        process = self._running()
        try:
            write_message(process.stdin, message)
        except BrokenPipeError as exc:
            raise self._death() from exc

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def _death(self) -> ModelError:
        process, self._process = self._running(), None
        _stop(process, self._owner)
        return ModelError(
            f"the process that loads the pickle of {self._path} has died",
            expected="predictions",
            got=f"exit code {process.returncode}; its error output is in the log",
            fix="correct the code of the estimator; after a kill by the system give the worker more memory",
        )


def write_message(stream: IO[bytes] | None, message: bytes) -> None:
    """Write a message with its length."""
    assert stream is not None
    stream.write(_LENGTH.pack(len(message)))
    stream.write(message)
    stream.flush()


def read_message(stream: IO[bytes]) -> bytes | None:
    """Return the next message; None at the end of the stream."""
    header = stream.read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(header)
    message = stream.read(length)
    return message if len(message) == length else None


def _stop(process: subprocess.Popen[bytes], owner: int) -> None:
    """Close the pipes, at which the process ends. A fork closes its copies and leaves the process to its parent."""
    for stream in (process.stdin, process.stdout):
        with contextlib.suppress(BrokenPipeError):  # unsent bytes
            if stream:
                stream.close()
    if owner == os.getpid():
        process.wait()
    else:
        process.returncode = 0  # no warning about a process of the parent
