"""The services of a step: all ports, each connected on first use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from ml_pipelines.contracts import ArtifactKind, ArtifactRef, Identity, StepResult
from ml_pipelines.ports.ledger import Ledger
from ml_pipelines.ports.registry import ModelVersion, Registry
from ml_pipelines.ports.source import DataSource
from ml_pipelines.ports.tracking import Tracking
from ml_pipelines.spec.sources import SourceSection
from ml_pipelines.store.signatures import ManifestKeys

__all__ = ["CELLS_PER_GROUP", "Services", "TaskRecord"]

CELLS_PER_GROUP = 800_000
"""The default of :attr:`Services.cells_per_group`."""


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """The result of one task of a run, with the time (UTC) of its record."""

    identity: Identity
    result: StepResult
    recorded_at: datetime


class Services(Protocol):
    """The services that `resolve` and `publish` use."""

    @property
    def server_id(self) -> str:
        """An id of the tracking server, without credentials. A result is published once per server."""
        ...

    @property
    def cells_per_group(self) -> int:
        """Number of cells in each row group of a table. It bounds the memory of steps that stream over tables.

        The rows do not depend on it, so it is not part of a cache key.
        """
        ...

    @property
    def manifest_keys(self) -> ManifestKeys | None:
        """The keys that sign and verify the manifests of results; None without signatures."""
        ...

    @property
    def tracking(self) -> Tracking:
        """The tracking server."""
        ...

    @property
    def registry(self) -> Registry:
        """The model registry."""
        ...

    @property
    def ledger(self) -> Ledger:
        """The ledger of decisions."""
        ...

    def source(self, declared: SourceSection) -> DataSource:
        """Return the adapter of a declared source."""
        ...

    def prepare_smoke_test(self) -> None:
        """Start to prepare a smoke test, in parallel to the work of this process."""
        ...

    def smoke_test(self, version: ModelVersion, data: bytes, training: Mapping[str, Any]) -> list[Any]:
        """Return the predictions of a version for the smoke rows of its training.

        The model is loaded from the verified bytes of its file, in a process of its own.

        Raises:
            ArtifactCorrupt: the process received bytes without the registered digest.
            VerificationFailed: the model can't predict, or the process ended early.
            ServiceUnavailable: the process exceeds its time limit.
        """
        ...

    def read(self, ref: ArtifactRef) -> bytes:
        """Return the verified bytes of an artifact."""
        ...

    def copy_artifact(self, ref: ArtifactRef, data: bytes) -> ArtifactRef:
        """Store the bytes of an artifact of another store, and return its reference in this store."""
        ...

    def save_artifact(self, data: bytes, kind: ArtifactKind) -> ArtifactRef:
        """Store bytes as an artifact."""
        ...

    def runs(self, pipeline: str) -> Sequence[str]:
        """Return the ids of the recorded runs of a pipeline, the latest first."""
        ...

    def tasks(self, identity: Identity) -> Sequence[TaskRecord]:
        """Return the records of the ended tasks of a run, in the order in which they ended."""
        ...
