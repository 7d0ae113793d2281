"""The model registry."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from ml_pipelines.contracts import ArtifactRef, Identity
from ml_pipelines.ports.tracking import TrackedModel

__all__ = ["ModelVersion", "Registry"]


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A model version in the registry.

    Attributes:
        model: name of the model.
        version: number, as text.
        artifact: the model's artifact from the training; None if another program registered the version.
        tags: tags of the version.
        aliases: aliases that point to the version, such as `champion`.
        url: page of the version, if the registry has pages.
    """

    model: str
    version: str
    artifact: ArtifactRef | None
    tags: dict[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    url: str | None = None


class Registry(Protocol):
    """The model registry. Every call is idempotent."""

    def by_alias(self, model: str, alias: str) -> ModelVersion | None:
        """Return the version of an alias; None if the model or the alias does not exist."""
        ...

    def by_version(self, model: str, version: str) -> ModelVersion | None:
        """Return a version by its number; None if it does not exist."""
        ...

    def register(
        self, model: str, tracked: TrackedModel, artifact: ArtifactRef, identity: Identity, tags: dict[str, str]
    ) -> ModelVersion:
        """Register a tracked model. A `tracked.model_uri` has one version, which a retry returns.

        The version's tags are those given, `ml_pipelines.pipeline` and `ml_pipelines.run_id`.
        """
        ...

    def set_alias(self, model: str, version: str, alias: str) -> None:
        """Point an alias at a version."""
        ...

    def drop_alias(self, model: str, alias: str) -> None:
        """Remove an alias. It is no error if the alias does not exist."""
        ...

    def fetch_files(self, version: ModelVersion) -> dict[str, bytes]:
        """Return every file that a client loads with the version, by its relative path.

        Raises:
            RegistryError: the version does not exist, or a client that loads it could run other code.
        """
        ...

    def fetch(self, version: ModelVersion) -> bytes:
        """Return the bytes of the model file that the registry serves.

        Raises:
            RegistryError: the file does not exist.
        """
        ...
