"""The ports in one hand, each made only when it is asked for."""

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

__all__ = ["CELLS_PER_GROUP", "Services", "TaskRecord"]

CELLS_PER_GROUP = 800_000
"""Unless another number is set."""


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """What one task of a run got, and when (UTC)."""

    identity: Identity
    result: StepResult
    recorded_at: datetime


class Services(Protocol):
    """What `resolve` and `publish` may use."""

    @property
    def server_id(self) -> str:
        """Tells this outside world from others, without credentials: what was published in one is not in another."""
        ...

    @property
    def cells_per_group(self) -> int:
        """Of each row group of a table, whatever its columns: what bounds the memory of all that streams over tables.

        The rows are the same with any number, so it is no part of a key.
        """
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
        """What became of every run."""
        ...

    def source(self, declared: SourceSection) -> DataSource:
        """The source that a declaration names."""
        ...

    def prepare_smoke_test(self) -> None:
        """A version may be rehearsed later on: what that needs may get ready beside what this process does."""
        ...

    def smoke_test(self, version: ModelVersion, training: Mapping[str, Any]) -> list[Any]:
        """What a version, as the registry has it, answers to the smoke rows of its training in a process of its own.

        Raises:
            ArtifactCorrupt: the registry serves other bytes than were registered.
            RegistryError: the version's file is gone, or nothing tells what its bytes should be.
            VerificationFailed: the model can't predict, or the process has died.
            ServiceUnavailable: the registry does not answer, or the process took too long.
        """
        ...

    def read(self, ref: ArtifactRef) -> bytes:
        """The verified bytes of an artifact."""
        ...

    def copy_artifact(self, ref: ArtifactRef, data: bytes) -> ArtifactRef:
        """Put bytes that must have `ref`'s digest into this store; returns where they are here."""
        ...

    def save_artifact(self, data: bytes, kind: ArtifactKind) -> ArtifactRef:
        """Put bytes into this store."""
        ...

    def runs(self, pipeline: str) -> Sequence[str]:
        """The runs of a pipeline that are on record, the one that was last heard of first."""
        ...

    def tasks(self, identity: Identity) -> Sequence[TaskRecord]:
        """What the tasks of a run have got so far, in the order in which they ended."""
        ...
