"""Which model serves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from ml_pipelines.contracts import ArtifactRef, Identity
from ml_pipelines.ports.tracking import TrackedModel

__all__ = ["ModelVersion", "Registry"]


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One registered version.

    Attributes:
        model: name in the registry.
        version: number, as text.
        artifact: the model's artifact as it was stored at training; None if something else registered the version.
        tags: what was written at registration.
        aliases: names that point here now, such as `champion`.
        url: for people, if there is one.
    """

    model: str
    version: str
    artifact: ArtifactRef | None
    tags: dict[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    url: str | None = None


class Registry(Protocol):
    """The model registry. Every call may be repeated and leaves the same as once."""

    def by_alias(self, model: str, alias: str) -> ModelVersion | None:
        """The version that an alias points to, None if there is no such model or alias."""
        ...

    def by_version(self, model: str, version: str) -> ModelVersion | None:
        """A version by its number, None if there is no such model or version."""
        ...

    def register(
        self, model: str, tracked: TrackedModel, artifact: ArtifactRef, identity: Identity, tags: dict[str, str]
    ) -> ModelVersion:
        """Register a tracked model: one version for a `tracked.model_uri`, found again on a retry.

        The version's tags are those given, `ml_pipelines.pipeline` and `ml_pipelines.run_id`.
        """
        ...

    def set_alias(self, model: str, version: str, alias: str) -> None:
        """Point an alias at a version."""
        ...

    def drop_alias(self, model: str, alias: str) -> None:
        """Remove an alias; it is no error if there is none."""
        ...

    def fetch(self, version: ModelVersion) -> bytes:
        """The bytes of the model file as the registry serves them.

        Raises:
            RegistryError: the artifact is gone.
        """
        ...
