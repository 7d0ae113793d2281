"""The process that :mod:`ml_pipelines.adapters.rehearsal` starts: load a model from its bytes, and let it predict."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from typing import Any

from ml_pipelines.codecs import load_model
from ml_pipelines.errors import ArtifactCorrupt, PipelineError, VerificationFailed
from ml_pipelines.frames import frame_of, score

__all__ = ["main"]


def main() -> None:
    """Read what to try from standard input, and write predictions or an error to standard output."""
    # Whatever else prints, prints to standard error.
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)
        try:
            asked = json.loads(sys.stdin.buffer.readline())
            told: dict[str, Any] = {"predictions": _predictions(sys.stdin.buffer.read(), **asked)}
        except PipelineError as error:
            facts = ("what", "where", "expected", "got", "fix")
            told = {"error": {"kind": type(error).__name__, **{name: getattr(error, name) for name in facts}}}
        json.dump(told, answer)


def _predictions(data: bytes, *, where: str, sha256: str | None, training: dict[str, Any]) -> list[Any]:
    if (digest := hashlib.sha256(data).hexdigest()) != sha256:
        raise ArtifactCorrupt(
            "the bytes of the model are not those that were registered",
            where=where,
            expected=f"sha256 {sha256}",
            got=f"sha256 {digest}",
            fix="try again; if it happens again, look who else writes to the registry's artifacts",
        )
    try:
        rows = frame_of(training["smoke"]["rows"], training["features"])
        return list(score(load_model(data), rows, training).tolist())
    except PipelineError:
        raise
    # Whatever a model fails with: it does not predict.
    except Exception as exc:
        raise VerificationFailed(
            "the registered model can't predict",
            where=where,
            expected="predictions for the rows stored at training",
            got=f"{type(exc).__name__}: {exc}",
            fix="deploy with the package versions that the training record lists, or train again",
        ) from exc


if __name__ == "__main__":
    main()
