"""The worker of :mod:`ml_pipelines.adapters.smoke_test.process`: load a model from its bytes and let it predict."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from importlib import import_module
from typing import Any

from ml_pipelines._utils.error_json import Failure
from ml_pipelines._utils.garbage_collection import limit_garbage_collection
from ml_pipelines.errors import ArtifactCorrupt, PipelineError, VerificationFailed

__all__ = ["main", "respond"]


def main() -> None:
    """Read a request from standard input, and write predictions or an error to standard output."""
    limit_garbage_collection()
    # All other output goes to standard error.
    with os.fdopen(os.dup(1), "w") as response:
        os.dup2(2, 1)
        # Import before the request arrives; skops imports all estimators.
        import_module("ml_pipelines.modeling.skops_import")
        import_module("ml_pipelines.modeling.features")
        if line := sys.stdin.buffer.readline():
            json.dump(respond(json.loads(line), sys.stdin.buffer.read()), response)


def respond(request: dict[str, Any], data: bytes) -> dict[str, Any]:
    """Return the answer to a question: `predictions`, or an `error` as a failure."""
    try:
        return {"predictions": _predictions(data, **request)}
    except PipelineError as error:
        return {"error": Failure.from_error(error).model_dump()}


def _predictions(data: bytes, *, where: str, sha256: str | None, training: dict[str, Any]) -> list[Any]:
    from ml_pipelines.modeling.features import frame_from_records, predict
    from ml_pipelines.modeling.serialization import load_model

    if (digest := hashlib.sha256(data).hexdigest()) != sha256:
        raise ArtifactCorrupt(
            "the bytes of the model are not those that were registered",
            where=where,
            expected=f"sha256 {sha256}",
            got=f"sha256 {digest}",
            fix="try again; if it fails again, check which other process writes to the registry's artifacts",
        )
    try:
        rows = frame_from_records(training["smoke"]["rows"], training["features"])
        model = load_model(data)
        predictions = predict(model, rows, training)
        _check_threshold(model, rows, predictions, training, where)
        return list(predictions.tolist())
    except PipelineError:
        raise
    # An estimator may raise anything.
    except Exception as exc:
        raise VerificationFailed(
            "the registered model can't predict",
            where=where,
            expected="predictions for the rows stored at training",
            got=f"{type(exc).__name__}: {exc}",
            fix="deploy with the package versions that the training record lists, or train again",
        ) from exc


def _check_threshold(model: Any, rows: Any, predictions: Any, training: dict[str, Any], where: str) -> None:
    """Check that the labels for clients of the registry are those of the tuned threshold.

    They are compared with the predictions of this process. A label of the training could differ by rounding.
    """
    from ml_pipelines.modeling.threshold import threshold_of

    tuned, stored = training.get("threshold"), threshold_of(model)
    if tuned is None and stored is None:
        return
    positive = model.predict(rows) == training["positive"]
    if tuned is None or stored != tuned["value"] or (positive != (predictions >= stored)).any():
        raise VerificationFailed(
            "the registered model predicts labels by another threshold than that of its training",
            where=where,
            expected=f"threshold {tuned['value'] if tuned else 'none'}",
            got=f"threshold {stored}",
            fix="train the model again, or check which other process writes to the registry's artifacts",
        )


if __name__ == "__main__":
    main()
