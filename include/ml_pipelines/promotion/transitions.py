"""Transitions of the alias `champion` without a training: promotion by a person, rollback, change from outside.

Each transition is verified, carried out and recorded under the model lock. The next try with the same version
completes an interrupted one.
"""

from __future__ import annotations

from collections.abc import Callable

from ml_pipelines.contracts import Decision, Identity
from ml_pipelines.errors import RegistryError
from ml_pipelines.ports import ModelVersion, Registry, Services
from ml_pipelines.ports.ledger_entry import LedgerEntry, RolledBackVersion, RunDetails
from ml_pipelines.promotion.deployment import move_aliases, verify_version
from ml_pipelines.promotion.history import ExternalChange, find_external_change, latest_transition
from ml_pipelines.promotion.model_files import recorded_version

__all__ = [
    "promote",
    "record_external_change",
    "replacement",
    "roll_back",
    "rollback_version",
    "version_by_alias",
    "version_by_number",
]

VersionSelector = Callable[[Registry], ModelVersion]


def promote(services: Services, model: str, select: VersionSelector, *, reason: str, identity: Identity) -> LedgerEntry:
    """Promote a version without the gate.

    Args:
        services: registry, ledger and store.
        model: name in the registry.
        select: returns the version; called under the model lock.
        reason: reason for the ledger entry.
        identity: identity of the caller; the same identity again is a retry.

    Returns:
        The ledger entry of the promotion.

    Raises:
        RegistryError: there is no such version, or the ledger has no record of its files.
        ArtifactCorrupt: the registry serves other files than were registered.
        VerificationFailed: the predictions differ from those at training.
        ServiceUnavailable: a server does not answer.
    """
    with services.ledger.lock(model):
        version = select(services.registry)
        latest = latest_transition(services.ledger, model)
        if _other_champion(services, version) is None and latest and _is_recorded(latest, version):
            return latest
        return _carry_out(
            services, version, Decision(outcome="promoted", model=model, reason=reason), RunDetails(), identity
        )


def roll_back(
    services: Services, model: str, select: VersionSelector, *, reason: str, identity: Identity
) -> LedgerEntry:
    """Deploy an earlier version; the gate holds the replaced model for approval from now on.

    Arguments and errors as of :func:`promote`; further:

    Raises:
        RegistryError: the version is the champion already, or there is no champion.
    """
    with services.ledger.lock(model):
        version = select(services.registry)
        recorded = services.ledger.entry(identity.pipeline, identity.run_id)
        withdrawn = _other_champion(services, version) or _withdrawn_by_interrupted_try(services, version)
        if withdrawn is None:
            if recorded is not None and recorded.model == model and recorded.details.version == version.version:
                return recorded
            raise RegistryError(
                f"version {version.version} is the champion already",
                where=f"model {model}",
                fix="name another version",
            )
        decision = Decision(outcome="rolled_back", model=model, reason=reason, champion_version=withdrawn.version)
        digest = withdrawn.artifact.sha256 if withdrawn.artifact else None
        details = RunDetails(withdrawn=RolledBackVersion(version=withdrawn.version, sha256=digest))
        return _carry_out(services, version, decision, details, identity)


def record_external_change(services: Services, model: str) -> ExternalChange | None:
    """Record a change of the alias `champion` from outside, if there is one. The caller holds the model lock."""
    change = find_external_change(services.registry, services.ledger, model)
    if change is not None:
        champion = change.champion
        details = RunDetails(
            version=champion.version if champion else None,
            previous_version=change.entry.details.version,
            sha256=champion.artifact.sha256 if champion and champion.artifact else None,
        )
        identity = Identity(
            pipeline="registry", run_id=f"{model} after entry {change.entry.seq}", task_id="external_change"
        )
        services.ledger.record(
            identity,
            Decision(
                outcome="external_change",
                model=model,
                reason=change.sentence,
                champion_version=change.entry.details.version,
            ),
            details,
        )
    return change


def replacement(services: Services, model: str, version: str, identity: Identity) -> str | None:
    """Return the version that replaced the champion of a run before the run wrote its entry; None if nothing did.

    A deployment and its entry belong to two steps. Another run or a rollback may change the champion in between, and
    record that first. The caller holds the model lock.
    """
    entry = services.ledger.entry(identity.pipeline, identity.run_id)
    if entry is not None and entry.details.version == version:
        return entry.details.replaced_by  # as an earlier try wrote it
    champion, latest = services.registry.by_alias(model, "champion"), latest_transition(services.ledger, model)
    if champion is None or latest is None or champion.version == version:
        return None
    return champion.version if champion.version == latest.details.version else None


def rollback_version(services: Services, model: str, to: str) -> ModelVersion:
    """Return the target of a rollback: a version by its number, or the version behind the alias `previous`.

    Raises:
        RegistryError: there is none, or the champion was changed externally, so that `previous` is ambiguous.
    """
    if to != "previous":
        return version_by_number(services.registry, model, to)
    if change := find_external_change(services.registry, services.ledger, model):
        raise RegistryError(
            "the previous version is ambiguous, since the champion was changed externally",
            where=f"model {model}",
            expected=f"the champion at version {change.entry.details.version}, as recorded in the ledger",
            got=change.sentence,
            fix="name the version for the rollback",
        )
    return version_by_alias(services.registry, model, "previous", fix="name the version for the rollback")


def version_by_number(registry: Registry, model: str, number: str) -> ModelVersion:
    """Return a version by its number.

    Raises:
        RegistryError: there is no such version.
    """
    if version := registry.by_version(model, number):
        return version
    raise RegistryError(
        f"there is no version {number}",
        where=f"model {model}",
        fix="name a version that the registry lists",
    )


def version_by_alias(registry: Registry, model: str, alias: str, *, fix: str) -> ModelVersion:
    """Return the version behind an alias.

    Raises:
        RegistryError: there is no such alias.
    """
    if version := registry.by_alias(model, alias):
        return version
    raise RegistryError(f"no version has the alias {alias}", where=f"model {model}", fix=fix)


def _other_champion(services: Services, version: ModelVersion) -> ModelVersion | None:
    """Return the champion unless it is the version; an external change of it is recorded first."""
    champion = services.registry.by_alias(version.model, "champion")
    if champion is None or champion.version == version.version:
        return None
    record_external_change(services, version.model)
    return champion


def _withdrawn_by_interrupted_try(services: Services, version: ModelVersion) -> ModelVersion | None:
    """Return the champion that an earlier try replaced but did not record.

    Another run may have recorded the replacement as an external change in the meantime.
    """
    change = find_external_change(services.registry, services.ledger, version.model)
    latest = latest_transition(services.ledger, version.model)
    number = None
    if change is not None and change.champion is not None:
        number = change.entry.details.version
    elif latest is not None and latest.details.version == version.version and not _is_recorded(latest, version):
        number = latest.details.previous_version
    return version_by_number(services.registry, version.model, number) if number else None


def _is_recorded(latest: LedgerEntry, version: ModelVersion) -> bool:
    """Return whether the latest transition is the decision to deploy a version, and not an observation."""
    return latest.details.version == version.version and latest.decision.outcome != "external_change"


def _carry_out(
    services: Services,
    version: ModelVersion,
    decision: Decision,
    details: RunDetails,
    identity: Identity,
) -> LedgerEntry:
    verify_version(services, version, recorded_version(services.ledger, version))
    previous = move_aliases(services.registry, version, services.registry.by_alias(version.model, "champion"))
    changes = {
        "version": version.version,
        "previous_version": previous,
        "sha256": version.artifact.sha256 if version.artifact else None,
    }
    return services.ledger.record(identity, decision, details.model_copy(update=changes))
