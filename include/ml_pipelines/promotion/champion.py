"""Which model a run's candidates have to beat, and which one scores a batch."""

from __future__ import annotations

from ml_pipelines.contracts import Identity
from ml_pipelines.errors import RegistryError
from ml_pipelines.ports import ModelVersion, Registry
from ml_pipelines.spec.batch import ModelReference

__all__ = ["champion_before_run", "scoring_version"]


def champion_before_run(registry: Registry, model: str, identity: Identity) -> ModelVersion | None:
    """The champion as it was before this run: a second try must not hold the run's own model against itself.

    Raises:
        ServiceUnavailable: the registry does not answer.
    """
    champion = registry.by_alias(model, "champion")
    if champion is None or not _made_by(champion, identity):
        return champion
    return registry.by_alias(model, "previous")


def scoring_version(registry: Registry, model: ModelReference) -> ModelVersion:
    """The version that a declaration or a run names.

    Raises:
        RegistryError: there is none.
        ServiceUnavailable: the registry does not answer.
    """
    if model.version is not None:
        found, what = registry.by_version(model.name, model.version), f"there is no version {model.version}"
    else:
        found, what = registry.by_alias(model.name, model.alias), f"no version has the alias {model.alias}"
    if found is None:
        fix = "train and promote a model of this name, or correct the declaration"
        raise RegistryError(what, where=f"model {model.name}", fix=fix)
    return found


def _made_by(version: ModelVersion, identity: Identity) -> bool:
    made_by = (version.tags.get("ml_pipelines.pipeline"), version.tags.get("ml_pipelines.run_id"))
    return made_by == (identity.pipeline, identity.run_id)
