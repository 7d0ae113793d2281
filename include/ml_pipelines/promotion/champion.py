"""Find the champion before a run, its training record, and the version that scores a batch."""

from __future__ import annotations

from typing import Any

from ml_pipelines.contracts import Identity
from ml_pipelines.errors import PipelineError, RegistryError, TransientError
from ml_pipelines.ports import ModelVersion, Registry, Services
from ml_pipelines.promotion.deployment import training_record
from ml_pipelines.spec.batch import ModelReference

__all__ = ["champion_before_run", "champion_record", "scoring_version"]


def champion_before_run(registry: Registry, model: str, identity: Identity) -> ModelVersion | None:
    """Return the version that was champion before this run.

    After a retry, the champion can be the model of this run. Then the result is the previous champion.

    Raises:
        ServiceUnavailable: the registry does not answer.
    """
    champion = registry.by_alias(model, "champion")
    if champion is None or not _is_of_run(champion, identity):
        return champion
    return registry.by_alias(model, "previous")


def champion_record(services: Services, champion: ModelVersion | None) -> dict[str, Any]:
    """Return the champion's training record; empty if there is no champion or no readable record.

    Raises:
        StoreUnavailable: the artifact store does not answer.
    """
    try:
        return training_record(services, champion) if champion is not None else {}
    except TransientError:
        raise
    except PipelineError:  # registered outside of the pipelines, or removed from the store
        return {}


def scoring_version(registry: Registry, model: ModelReference) -> ModelVersion:
    """Return the version for a batch scoring.

    Raises:
        RegistryError: there is no such version or alias.
        ServiceUnavailable: the registry does not answer.
    """
    if model.version is not None:
        version, what = registry.by_version(model.name, model.version), f"there is no version {model.version}"
    else:
        version, what = registry.by_alias(model.name, model.alias), f"no version has the alias {model.alias}"
    if version is None:
        fix = "train and promote a model of this name, or correct the declaration"
        raise RegistryError(what, where=f"model {model.name}", fix=fix)
    return version


def _is_of_run(version: ModelVersion, identity: Identity) -> bool:
    run = (version.tags.get("ml_pipelines.pipeline"), version.tags.get("ml_pipelines.run_id"))
    return run == (identity.pipeline, identity.run_id)
