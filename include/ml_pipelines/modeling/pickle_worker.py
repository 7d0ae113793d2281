"""The program of :mod:`ml_pipelines.modeling.pickle_process`: unpickle an estimator once, then answer requests."""

from __future__ import annotations

import io
import json
import os
import pickle
import sys
from typing import Any

import numpy as np

from ml_pipelines._utils.garbage_collection import limit_garbage_collection
from ml_pipelines.modeling.pickle_process import ARRAY, ERROR, LABELS, read_message, write_message
from ml_pipelines.pipeline.user_errors import error_text
from ml_pipelines.spec.code_folder_import import enable_code_folder

__all__ = ["main"]


def main() -> None:
    """Read the pickle and the requests from standard input, and write one answer to each request."""
    limit_garbage_collection()
    enable_code_folder()
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # what the estimator prints goes to standard error
        data = read_message(sys.stdin.buffer)
        estimator: Any = None
        while (request := read_message(sys.stdin.buffer)) is not None:
            try:
                if estimator is None:
                    # The file that contains the pickle was verified by its digest, or is that of an MLflow client.
                    estimator = pickle.loads(data or b"")  # noqa: S301  this process has no credentials
                method, X = pickle.loads(request)  # noqa: S301  from the process that started this one
                answer = _encode(getattr(estimator, method)(X))
            except (Exception, SystemExit) as exc:  # an estimator may raise anything
                answer = ERROR + error_text(exc).encode(errors="replace")
            write_message(answers, answer)


def _encode(result: Any) -> bytes:
    array = np.asarray(result)
    if array.dtype.kind in "biuf":
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        return ARRAY + buffer.getvalue()
    return LABELS + json.dumps(array.tolist()).encode()


if __name__ == "__main__":
    main()
