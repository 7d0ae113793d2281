"""Where trainings are written down for people to compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from ml_pipelines.contracts import ArtifactRef, DataPin, Identity, JsonValue

__all__ = ["TrackedModel", "Tracking", "Training"]


@dataclass(frozen=True, slots=True)
class Training:
    """One finished training.

    Attributes:
        model: name in the registry, which is also the experiment's.
        candidate: name of the candidate.
        key: the recipe's key.
        params: what to show as parameters.
        metrics: what is known at this point.
        pin: the data.
        model_ref: the model's artifact; the tracked file is the same, byte for byte.
        model_bytes: its bytes, verified.
        requirements: pip requirements, exact.
        trusted_types: what skops may rebuild, reviewed.
        example: some rows of features as records.
        predictions: the model's answer to `example`.
    """

    model: str
    candidate: str
    key: str
    params: dict[str, JsonValue]
    metrics: dict[str, float]
    pin: DataPin
    model_ref: ArtifactRef
    model_bytes: bytes
    requirements: list[str]
    trusted_types: list[str]
    example: list[dict[str, Any]]
    predictions: list[Any]


@dataclass(frozen=True, slots=True)
class TrackedModel:
    """Where a training was written down: `model_uri` is like `models:/m-...`, `url` is for people, if there is one."""

    run_id: str
    model_uri: str
    url: str | None = None


class Tracking(Protocol):
    """The tracking server. Every call may be repeated and leaves the same as once."""

    def log_training(self, identity: Identity, training: Training) -> TrackedModel:
        """Write a training down: one run and one logged model for an identity, found again on a retry.

        Raises:
            ServiceUnavailable: the server does not answer.
        """
        ...

    def log_evaluation(
        self, tracked: TrackedModel, metrics: dict[str, float], figures: dict[str, bytes], documents: dict[str, str]
    ) -> None:
        """Add metrics, SVG figures and JSON documents (by file name) to a training's run and model.

        Raises:
            ServiceUnavailable: the server does not answer.
        """
        ...

    def close_abandoned(self, pipeline: str, older_than_seconds: float) -> int:
        """End the runs of a pipeline that a killed process left open. Returns how many."""
        ...
