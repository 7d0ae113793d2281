"""Deploy a registered version: verify its predictions, then move the aliases of the registry."""

from __future__ import annotations

from ml_pipelines.contracts import JsonValue
from ml_pipelines.errors import RegistryError
from ml_pipelines.pipeline.facts import DeployFacts, FactsForDeployment
from ml_pipelines.pipeline.step import Publication
from ml_pipelines.pipeline.step_parameters import DeployParameters
from ml_pipelines.ports import ModelVersion, Registry, Services
from ml_pipelines.promotion.champion import champion_before_run
from ml_pipelines.promotion.deployment import move_aliases, verify_version
from ml_pipelines.promotion.transitions import record_external_change

__all__ = ["publish"]


def publish(work: Publication[DeployParameters, FactsForDeployment], services: Services) -> dict[str, JsonValue]:
    """Verify the registered version, then point `previous` at the old champion and `champion` at the version.

    The step is idempotent: it completes a try that was interrupted at any point.

    Returns:
        The values of :class:`DeployFacts`.

    Raises:
        ArtifactCorrupt: the registry serves other files than were registered.
        VerificationFailed: the predictions differ from those at training.
        RegistryError: another run was faster, an alias was changed at the same time, or no pipeline registered the
            version.
    """
    model, decision = work.parameters.model, work.facts.decide.decision
    version = _registered(services.registry, model, work.facts.register.version)
    champion = services.registry.by_alias(model, "champion")
    # A champion that is the new version comes from an earlier try of this step, not from outside.
    if champion is None or champion.version != version.version:
        record_external_change(services, model)
        # A run that was cleared replaces the version that it deployed before, not the champion of another run.
        champion = champion_before_run(services.registry, model, work.identity)
    _check_champion(model, champion, (decision.champion_version, version.version))
    verify_version(services, version, work.facts.register.registered)
    previous = move_aliases(services.registry, version, champion)
    return DeployFacts(version=version.version, previous_version=previous).as_values()


def _registered(registry: Registry, model: str, number: str) -> ModelVersion:
    """Return the version to deploy: the challenger, or the champion if an earlier try has deployed it."""
    challenger = registry.by_alias(model, "challenger")
    for version in (challenger, registry.by_alias(model, "champion")):
        if version is not None and version.version == number:
            return version
    raise RegistryError(
        f"version {number} is no longer the challenger",
        where=f"model {model}",
        expected=f"alias challenger at version {number}",
        got=f"version {challenger.version}" if challenger else "no such alias",
        fix="another run registered its model after this one: start the run again",
    )


def _check_champion(model: str, champion: ModelVersion | None, allowed: tuple[str | None, str]) -> None:
    """Raise RegistryError if the candidate was compared with another champion than the current one."""
    current = champion.version if champion else None
    if current not in allowed:
        raise RegistryError(
            "the champion changed after the decision",
            where=f"model {model}",
            expected=f"champion at version {allowed[0]}" if allowed[0] else "no champion",
            got=f"version {current}" if current else "no champion",
            fix="start the run again, so that the model is compared with the current champion",
        )
