"""Let a registered version serve, after it has proved to be the model that was trained. Aliases are all that moves."""

from __future__ import annotations

from typing import Any, cast

from ml_pipelines._utils.canonical_json import load_json
from ml_pipelines.contracts import ArtifactRef, Decision, JsonValue
from ml_pipelines.errors import RegistryError
from ml_pipelines.pipeline.parameters import DeployParameters
from ml_pipelines.pipeline.step import Publication
from ml_pipelines.ports import ModelVersion, Registry, Services
from ml_pipelines.promotion.deployment import move_aliases, verify_predictions
from ml_pipelines.promotion.transitions import record_outside_move

__all__ = ["publish"]


def publish(work: Publication, services: Services) -> dict[str, JsonValue]:
    """Verify the registered version, then `previous` <- the old champion, `champion` <- the version.

    Repeating it changes nothing, wherever the first try was interrupted.

    Returns:
        `version`, and `previous_version`, which `previous` points to now; None if it points nowhere.

    Raises:
        ArtifactCorrupt: the registry serves other bytes than were registered.
        VerificationFailed: the model does not predict what it predicted when it was trained.
        RegistryError: another run was faster, the aliases are not what they were set to, or the version is not one of
            ours.
    """
    model = cast("DeployParameters", work.parameters).model
    decision = Decision.model_validate_json(services.read(cast("ArtifactRef", work.references["decision"])))
    decided = cast("dict[str, Any]", work.facts["decide"])["champion_version"]
    version = _registered(services.registry, model, cast("dict[str, Any]", work.facts["register"])["version"])
    old = services.registry.by_alias(model, "champion")
    if old is None or old.version != version.version:  # else an earlier try has moved it, and not somebody else
        record_outside_move(services, model)
    _check_champion(model, old, (decided, version.version))
    trainings = cast("tuple[ArtifactRef, ...]", work.references["trainings"])
    verify_predictions(services, version, load_json(services.read(trainings[cast("int", decision.candidate_index)])))
    previous = move_aliases(services.registry, version, old)
    return {"version": version.version, "previous_version": previous}


def _registered(registry: Registry, model: str, number: str) -> ModelVersion:
    """The version to deploy: still the challenger, or the champion already if this is a retry."""
    challenger = registry.by_alias(model, "challenger")
    for version in (challenger, registry.by_alias(model, "champion")):
        if version is not None and version.version == number:
            return version
    raise RegistryError(
        f"version {number} is no longer the challenger",
        where=f"model {model}",
        expected=f"alias challenger at version {number}",
        got=f"version {challenger.version}" if challenger else "no such alias",
        fix="another run has registered its model since: start the run again",
    )


def _check_champion(model: str, champion: ModelVersion | None, allowed: tuple[str | None, str]) -> None:
    """Serve only what was compared with the champion of this moment."""
    now = champion.version if champion else None
    if now not in allowed:
        raise RegistryError(
            "the champion changed after the decision",
            where=f"model {model}",
            expected=f"champion at version {allowed[0]}" if allowed[0] else "no champion",
            got=f"version {now}" if now else "no champion",
            fix="start the run again, so that the model is compared with today's champion",
        )
