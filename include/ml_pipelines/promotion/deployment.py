"""Deploy a registered version: verify that the registry has the trained file, then move the aliases.

The callers are the step `deploy` and the transitions by people and other DAGs. All of them hold the model lock.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from ml_pipelines.contracts import ArtifactRef
from ml_pipelines.errors import ArtifactCorrupt, ArtifactMissing, RegistryError, VerificationFailed
from ml_pipelines.ports import ModelVersion, Registry, Services

__all__ = [
    "TRAINING_TAG",
    "ensure_model_artifact",
    "move_aliases",
    "training_record",
    "training_record_ref",
    "verified_model_bytes",
    "verify_predictions",
]

TRAINING_TAG = "ml_pipelines.training"  # tag of a version: the reference of its training record, as JSON
TOLERANCE = 1e-6  # relative; another CPU may round the last digits differently
_TINY = 1e-8  # absolute; for predictions near zero


def verified_model_bytes(registry: Registry, version: ModelVersion) -> bytes:
    """Return the bytes of a version's model file, with the digest that was recorded at training.

    Raises:
        ArtifactCorrupt: the registry returns other bytes.
        RegistryError: no pipeline registered the version, so there is no digest; or the file is gone.
        ServiceUnavailable: the registry does not answer.
    """
    where = f"model {version.model}, version {version.version}"
    if version.artifact is None:
        raise RegistryError(
            f"version {version.version} was not registered by a pipeline, so its model file can't be verified",
            where=where,
            expected="the tag ml_pipelines.artifact with the file's digest, as the register step writes it",
            got="no such tag",
            fix="train and register the model with a pipeline, or set the alias in the registry yourself",
        )
    data = registry.fetch(version)
    digest = hashlib.sha256(data).hexdigest()
    if digest != version.artifact.sha256:
        raise ArtifactCorrupt(
            "the registry returns another file than was registered",
            where=where,
            expected=f"sha256 {version.artifact.sha256}",
            got=f"sha256 {digest}",
            fix="start the run again; if it fails again, check which other process writes to the registry's artifacts",
        )
    return data


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


def ensure_model_artifact(services: Services, version: ModelVersion) -> ArtifactRef:
    """Return a version's verified model file in this store; copy it from the registry if the store lacks it.

    Raises:
        ArtifactCorrupt: the registry returns other bytes than were registered.
        RegistryError: no pipeline registered the version, or its file is gone.
        ServiceUnavailable: the registry does not answer.
    """
    if version.artifact is None:
        return services.save_artifact(
            verified_model_bytes(services.registry, version), "model"
        )  # raises: there is no digest
    try:
        data = services.read(version.artifact)
    except (ArtifactMissing, ArtifactCorrupt):
        data = verified_model_bytes(services.registry, version)
    # Writing it again renews its age, so that retention keeps it while it is in use.
    return services.copy_artifact(version.artifact, data)


def verify_predictions(services: Services, version: ModelVersion, training: Mapping[str, Any]) -> None:
    """Compare the smoke test of a version, in a process of its own, with the predictions at training.

    Args:
        services: registry and smoke test.
        version: version to verify.
        training: its training record.

    Raises:
        ArtifactCorrupt: the registry returns other bytes than were registered.
        RegistryError: the version's file is gone, or no pipeline registered the version.
        VerificationFailed: the predictions differ from those at training.
        ServiceUnavailable: the registry does not answer, or the process took too long.
    """
    expected, got = _flat(training["smoke"]["predictions"]), _flat(services.smoke_test(version, training))
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
