"""Which model a run's candidates have to beat."""

from __future__ import annotations

from ml_pipelines.contracts import Identity
from ml_pipelines.ports import ModelVersion, Registry

__all__ = ["champion_before"]


def champion_before(registry: Registry, model: str, identity: Identity) -> ModelVersion | None:
    """The champion as it was before this run: a second try must not hold the run's own model against itself.

    Raises:
        ServiceUnavailable: the registry does not answer.
    """
    champion = registry.by_alias(model, "champion")
    if champion is None or not _made_by(champion, identity):
        return champion
    return registry.by_alias(model, "previous")


def _made_by(version: ModelVersion, identity: Identity) -> bool:
    made_by = (version.tags.get("ml_pipelines.pipeline"), version.tags.get("ml_pipelines.run_id"))
    return made_by == (identity.pipeline, identity.run_id)
