"""The tracking server of trainings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from ml_pipelines.contracts import ArtifactRef, DataPin, Identity, JsonValue

__all__ = ["TrackedModel", "Tracking", "Training"]


@dataclass(frozen=True, slots=True)
class Training:
    """A finished training of a candidate.

    Attributes:
        model: name of the model in the registry, and of the experiment.
        candidate: name of the candidate.
        key: cache key of the training.
        params: parameters to show.
        metrics: metrics that the training measured.
        pin: version of the data.
        model_ref: the model's artifact; the tracked file is the same, byte for byte.
        model_bytes: its bytes, verified.
        requirements: pip requirements, exact.
        trusted_types: reviewed types that skops may load.
        features: columns of the model in order, each with `name` and `dtype`.
        example: example rows of features, as records.
        predictions: predictions of the model for `example`.
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
    features: list[dict[str, Any]]
    example: list[dict[str, Any]]
    predictions: list[Any]


@dataclass(frozen=True, slots=True)
class TrackedModel:
    """A training on the tracking server: its run, the URI of its model, and its page if the server has pages."""

    run_id: str
    model_uri: str
    url: str | None = None


class Tracking(Protocol):
    """The tracking server. Every call is idempotent."""

    def log_training(self, identity: Identity, training: Training) -> TrackedModel:
        """Log a training. An identity has one run and one logged model, which a retry completes.

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
        """End the runs of a pipeline that a killed process left open, and return their number."""
        ...
