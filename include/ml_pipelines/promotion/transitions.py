"""What people, and other DAGs for them, change about which version serves: promote one, go back to one.

Each change is verified, carried out and written down while nobody else may change the same model. A try that was
interrupted is finished by the next one with the same version.
"""

from __future__ import annotations

from collections.abc import Callable

from ml_pipelines.contracts import Decision, Identity, LedgerEntry, RolledBackVersion, RunDetails
from ml_pipelines.errors import RegistryError
from ml_pipelines.ports import ModelVersion, Registry, Services
from ml_pipelines.promotion.deployment import move_aliases, training_record, verify_predictions
from ml_pipelines.promotion.history import ExternalChange, find_external_change, latest_transition

__all__ = [
    "promote",
    "record_external_change",
    "roll_back",
    "rollback_version",
    "version_by_alias",
    "version_by_number",
]

Choice = Callable[[Registry], ModelVersion]


def promote(services: Services, model: str, choose: Choice, *, reason: str, identity: Identity) -> LedgerEntry:
    """Let a version serve that somebody has chosen, without asking the gate.

    Args:
        services: the outside world.
        model: name in the registry.
        choose: gives the version; called when nobody else may change the model.
        reason: who wants it, and why.
        identity: whose work this is.

    Returns:
        The ledger's entry that tells that it serves.

    Raises:
        RegistryError: there is no such version, or it was not registered by a pipeline.
        ArtifactCorrupt: the registry serves other bytes than were registered.
        VerificationFailed: the model does not predict what it predicted when it was trained.
        ServiceUnavailable: a server does not answer.
    """
    with services.ledger.lock(model):
        version = choose(services.registry)
        old = _champion(services, version)
        if (
            old is None
            and (word := latest_transition(services.ledger, model))
            and word.details.version == version.version
        ):
            return word
        return _change(
            services, version, Decision(outcome="promoted", model=model, reason=reason), RunDetails(), identity
        )


def roll_back(services: Services, model: str, choose: Choice, *, reason: str, identity: Identity) -> LedgerEntry:
    """Go back to a version; the one that served is not promoted again by itself.

    Args and raises as :func:`promote`; further:

    Raises:
        RegistryError: the version serves already, or nothing serves that could be rolled back.
    """
    with services.ledger.lock(model):
        version = choose(services.registry)
        before = services.ledger.entry(identity.pipeline, identity.run_id)
        champion = _champion(services, version)
        gone = champion or _withdrawn_before(services, version)
        if gone is None:
            if before is not None and before.model == model and before.details.version == version.version:
                return before
            raise RegistryError(
                f"version {version.version} serves already",
                where=f"model {model}",
                fix="give the version to go back to",
            )
        decision = Decision(outcome="rolled_back", model=model, reason=reason, champion_version=gone.version)
        digest = gone.artifact.sha256 if gone.artifact else None
        details = RunDetails(withdrawn=RolledBackVersion(version=gone.version, sha256=digest))
        return _change(services, version, decision, details, identity)


def record_external_change(services: Services, model: str) -> ExternalChange | None:
    """Write it down if somebody has moved the alias `champion` outside; whoever calls has the model's turn."""
    found = find_external_change(services.registry, services.ledger, model)
    if found is not None:
        champion = found.champion
        details = RunDetails(
            version=champion.version if champion else None,
            previous_version=found.word.details.version,
            sha256=champion.artifact.sha256 if champion and champion.artifact else None,
        )
        identity = Identity(
            pipeline="registry", run_id=f"{model} after entry {found.word.seq}", task_id="champion_moved_outside"
        )
        services.ledger.record(
            identity,
            Decision(
                outcome="external_change",
                model=model,
                reason=found.sentence,
                champion_version=found.word.details.version,
            ),
            details,
        )
    return found


def rollback_version(services: Services, model: str, to: str) -> ModelVersion:
    """A version by its number, or the champion before today's for `previous`.

    Raises:
        RegistryError: there is none, or the champion was moved outside, so that `previous` may mean another one.
    """
    if to != "previous":
        return version_by_number(services.registry, model, to)
    if found := find_external_change(services.registry, services.ledger, model):
        raise RegistryError(
            "which version is the previous one is not certain",
            where=f"model {model}",
            expected=f"the champion at version {found.word.details.version}, as the ledger tells",
            got=found.sentence,
            fix="name the version to go back to",
        )
    return version_by_alias(services.registry, model, "previous", fix="give the version to go back to")


def version_by_number(registry: Registry, model: str, number: str) -> ModelVersion:
    """A version.

    Raises:
        RegistryError: there is none of that number.
    """
    if found := registry.by_version(model, number):
        return found
    raise RegistryError(
        f"there is no version {number}",
        where=f"model {model}",
        fix="look in the registry which versions there are",
    )


def version_by_alias(registry: Registry, model: str, alias: str, *, fix: str) -> ModelVersion:
    """The version that an alias points to.

    Raises:
        RegistryError: it points nowhere.
    """
    if found := registry.by_alias(model, alias):
        return found
    raise RegistryError(f"no version has the alias {alias}", where=f"model {model}", fix=fix)


def _champion(services: Services, version: ModelVersion) -> ModelVersion | None:
    """Today's champion, unless it is the version; what moved it there outside is noted first."""
    champion = services.registry.by_alias(version.model, "champion")
    if champion is None or champion.version == version.version:
        return None
    record_external_change(services, version.model)
    return champion


def _withdrawn_before(services: Services, version: ModelVersion) -> ModelVersion | None:
    """What a try has replaced that was interrupted before it could write that down."""
    found = find_external_change(services.registry, services.ledger, version.model)
    if found is None or found.champion is None or found.word.details.version is None:
        return None
    return version_by_number(services.registry, version.model, found.word.details.version)


def _change(
    services: Services,
    version: ModelVersion,
    decision: Decision,
    details: RunDetails,
    identity: Identity,
) -> LedgerEntry:
    verify_predictions(services, version, training_record(services, version))
    previous = move_aliases(services.registry, version, services.registry.by_alias(version.model, "champion"))
    changes = {
        "version": version.version,
        "previous_version": previous,
        "sha256": version.artifact.sha256 if version.artifact else None,
    }
    return services.ledger.record(identity, decision, details.model_copy(update=changes))
