"""Deploy a registered version: verify that the registry serves the trained files, then move the aliases.

The callers are the step `deploy` and the transitions by people and other DAGs. All of them hold the model lock.
"""

from __future__ import annotations

import json
import math
from typing import Any

from pydantic import ValidationError

from ml_pipelines.contracts import ArtifactRef
from ml_pipelines.errors import ArtifactCorrupt, ArtifactMissing, RegistryError, VerificationFailed
from ml_pipelines.ports import ModelVersion, Registry, Services
from ml_pipelines.ports.ledger_entry import VersionRecord
from ml_pipelines.promotion.model_files import verified_model_bytes

__all__ = [
    "THRESHOLD_TAG",
    "TRAINING_TAG",
    "ensure_model_artifact",
    "move_aliases",
    "training_record",
    "training_record_ref",
    "verify_version",
]

TRAINING_TAG = "ml_pipelines.training"  # tag of a version: the reference of its training record, as JSON
THRESHOLD_TAG = "ml_pipelines.threshold"  # tag of a version: its tuned decision threshold
TOLERANCE = 1e-6  # relative; another CPU may round the last digits differently
_TINY = 1e-8  # absolute; for predictions near zero


def training_record(services: Services, version: ModelVersion) -> dict[str, Any]:
    """Return the training record of a version, which holds the rows of the smoke test.

    Raises:
        RegistryError: the version has no reference of a training record.
        ArtifactMissing: the record is gone from the store.
        ArtifactCorrupt: the record has another digest.
    """
    return dict(json.loads(services.read(training_record_ref(version))))


def training_record_ref(version: ModelVersion) -> ArtifactRef:
    """Return the reference of a version's training record.

    Raises:
        RegistryError: the version has none.
    """
    try:
        return ArtifactRef.model_validate_json(version.tags.get(TRAINING_TAG, ""))
    except ValidationError as exc:
        raise RegistryError(
            f"version {version.version} has no training record, so its predictions can't be verified",
            where=f"model {version.model}, version {version.version}",
            expected=f"the tag {TRAINING_TAG}, as the register step writes it",
            got=version.tags.get(TRAINING_TAG, "no such tag"),
            fix="train and register the model with a pipeline, or set the alias in the registry yourself",
        ) from exc


def ensure_model_artifact(services: Services, version: ModelVersion, record: VersionRecord) -> ArtifactRef:
    """Return a version's verified model file in this store; copy it from the registry if the store lacks it.

    Raises:
        ArtifactCorrupt: the registry serves other files than were registered.
        RegistryError: the version or its folder is gone.
        ServiceUnavailable: the registry does not answer.
    """
    artifact = version.artifact
    assert artifact is not None, "a recorded version has an artifact"
    try:
        data = services.read(artifact)
    except (ArtifactMissing, ArtifactCorrupt):
        data = verified_model_bytes(services.registry, version, record)
    # Writing it again renews its age, so that retention keeps it while it is in use.
    return services.copy_artifact(artifact, data)


def verify_version(services: Services, version: ModelVersion, record: VersionRecord) -> None:
    """Verify every file of a version, then compare its smoke test with the predictions at training.

    Args:
        services: registry, store and smoke test.
        version: version to verify.
        record: the digests of its registration.

    Raises:
        ArtifactCorrupt: the registry serves other files than were registered.
        ArtifactMissing: the training record is gone from the store.
        RegistryError: the version or its folder is gone.
        VerificationFailed: the predictions differ from those at training.
        ServiceUnavailable: the registry does not answer, or the process took too long.
    """
    training = json.loads(services.read(record.training))
    data = verified_model_bytes(services.registry, version, record)
    expected, got = _flat(training["smoke"]["predictions"]), _flat(services.smoke_test(version, data, training))
    if len(got) == len(expected) and all(
        math.isclose(now, then, rel_tol=TOLERANCE, abs_tol=_TINY) for now, then in zip(got, expected, strict=True)
    ):
        return
    worst = max((abs(now - then) for now, then in zip(got, expected, strict=False)), default=0.0)
    raise VerificationFailed(
        "the predictions of the registered model differ from those at training",
        where=f"model {version.model}, version {version.version}",
        expected=f"the {len(expected)} numbers stored at training, within {TOLERANCE:g}",
        got=f"numbers off by {worst:.6g}" if len(got) == len(expected) else f"{len(got)} numbers",
        fix="deploy with the package versions that the training record lists, or train again",
    )


def _flat(predictions: Any) -> list[float]:
    """Flatten predictions by row, or by row and class."""
    if isinstance(predictions, list):
        return [number for row in predictions for number in _flat(row)]
    return [float(predictions)]


def move_aliases(registry: Registry, version: ModelVersion, old: ModelVersion | None) -> str | None:
    """Point `previous` at the old champion and `champion` at the version, and read both back. Idempotent.

    Args:
        registry: registry of the model.
        version: the new champion; it loses the alias `challenger`.
        old: the current champion; None without one.

    Returns:
        The version behind `previous`; None without one.

    Raises:
        RegistryError: an alias points to another version than it was set to.
        ServiceUnavailable: the registry does not answer.
    """
    model = version.model
    if old is not None and old.version != version.version:
        registry.set_alias(model, old.version, "previous")
    registry.set_alias(model, version.version, "champion")
    challenger = registry.by_alias(model, "challenger")
    if challenger is not None and challenger.version == version.version:
        registry.drop_alias(model, "challenger")
    previous = registry.by_alias(model, "previous")
    _read_back(registry.by_alias(model, "champion"), "champion", version)
    if old is not None and old.version != version.version:
        _read_back(previous, "previous", old)
    return previous.version if previous else None


def _read_back(actual: ModelVersion | None, alias: str, expected: ModelVersion) -> None:
    got = actual.version if actual else None
    if got != expected.version:
        raise RegistryError(
            f"the alias {alias} points to another version than it was set to",
            where=f"model {expected.model}",
            expected=f"version {expected.version}",
            got=f"version {got}" if got else "no such alias",
            fix="check which other process sets aliases in the registry, then run the step again",
        )
