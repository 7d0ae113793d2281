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
        self._is_loaded = False

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
        request = pickle.dumps((method, X), protocol=5)
        with self._lock:
            # A fork has the pipes of its parent, and must not share them.
            if self._process is None or self._owner != os.getpid():
                self._start()
            try:
                kind, answer = self._exchange(request)
            except BaseException:  # after an interrupt, the pipe would still get the answer of this request
                self._end()
                raise
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
            start_new_session=True,  # Ctrl-C in the terminal is for this process, which ends the other one
        )
        self._owner, self._is_loaded = os.getpid(), False
        weakref.finalize(self, _end, self._process, self._owner)

    def _exchange(self, request: bytes) -> tuple[bytes, bytes]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        answer = None
        with contextlib.suppress(BrokenPipeError):  # the process has died
            if not self._is_loaded:
                write_message(process.stdin, self._data)
                self._is_loaded = True
            write_message(process.stdin, request)
            answer = read_message(process.stdout)
        if answer is None:
            raise ModelError(
                f"the process that loads the pickle of {self._path} has died",
                expected="predictions",
                got=f"exit code {process.wait()}; its error output is in the log",
                fix="correct the code of the estimator; after a kill by the system give the worker more memory",
            )
        return answer[:1], answer[1:]

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            _end(process, self._owner)


def write_message(stream: IO[bytes], message: bytes) -> None:
    """Write a message with its length."""
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


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    """End a process and close its pipes. A fork only closes its copies of the pipes of its parent's process."""
    if owner == os.getpid():
        process.kill()
        process.wait()
    else:
        process.returncode = 0  # no warning about a process of the parent
    for stream in (process.stdin, process.stdout):
        with contextlib.suppress(BrokenPipeError):  # unsent bytes
            if stream:
                stream.close()
