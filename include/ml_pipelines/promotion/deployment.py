"""Let a registered version serve: see that the registry has the very file that was trained, then move the aliases.

The deploy step does it with a new model, a person or another DAG with any version. Both hold the model's turn of the
ledger meanwhile, so that two never move aliases at once.
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

TRAINING_TAG = "ml_pipelines.training"  # of a version: the reference of its training's record, as JSON
TOLERANCE = 1e-6  # relative; another CPU may round the last digits differently
_TINY = 1e-8  # nor does a prediction this near to zero differ from it


def verified_model_bytes(registry: Registry, version: ModelVersion) -> bytes:
    """The bytes of a version's model file, which are those that were stored at training.

    Raises:
        ArtifactCorrupt: the registry serves others.
        RegistryError: something else registered the version, so nothing tells what its bytes should be; or they are
            gone.
        ServiceUnavailable: the registry does not answer.
    """
    where = f"model {version.model}, version {version.version}"
    if version.artifact is None:
        raise RegistryError(
            f"version {version.version} was not registered by a pipeline, so nothing proves that its file is the one "
            "that was trained",
            where=where,
            expected="the tag ml_pipelines.artifact with the file's digest, as the register step writes it",
            got="no such tag",
            fix="train and register the model with a pipeline, or set the alias in the registry yourself",
        )
    data = registry.fetch(version)
    digest = hashlib.sha256(data).hexdigest()
    if digest != version.artifact.sha256:
        raise ArtifactCorrupt(
            "the registry serves another file than was registered",
            where=where,
            expected=f"sha256 {version.artifact.sha256}",
            got=f"sha256 {digest}",
            fix="start the run again; if it happens again, look who else writes to the registry's artifacts",
        )
    return data


def training_record(services: Services, version: ModelVersion) -> dict[str, Any]:
    """The record of a version's training, with the rows that it is verified on.

    Raises:
        RegistryError: nothing tells which one that is.
        ArtifactMissing: it is gone from the store.
        ArtifactCorrupt: it is not what it was.
    """
    return dict(json.loads(services.read(training_record_ref(version))))


def training_record_ref(version: ModelVersion) -> ArtifactRef:
    """Where the record of a version's training is.

    Raises:
        RegistryError: nothing tells.
    """
    try:
        return ArtifactRef.model_validate_json(version.tags.get(TRAINING_TAG, ""))
    except ValidationError as exc:
        raise RegistryError(
            f"version {version.version} names no record of its training, so nothing tells what it has to predict",
            where=f"model {version.model}, version {version.version}",
            expected=f"the tag {TRAINING_TAG}, as the register step writes it",
            got=version.tags.get(TRAINING_TAG, "no such tag"),
            fix="train and register the model with a pipeline, or set the alias in the registry yourself",
        ) from exc


def ensure_model_artifact(services: Services, version: ModelVersion) -> ArtifactRef:
    """A version's model file in this store, verified; from the registry if the store does not have it any more.

    Raises:
        ArtifactCorrupt: the registry serves other bytes than were registered.
        RegistryError: something else registered the version, or its file is gone.
        ServiceUnavailable: the registry does not answer.
    """
    if version.artifact is None:
        return services.save_artifact(
            verified_model_bytes(services.registry, version), "model"
        )  # which tells why that can't be
    try:
        data = services.read(version.artifact)
    except (ArtifactMissing, ArtifactCorrupt):
        data = verified_model_bytes(services.registry, version)
    # Written again, it is young: retention leaves it alone while it is used.
    return services.copy_artifact(version.artifact, data)


def verify_predictions(services: Services, version: ModelVersion, training: Mapping[str, Any]) -> None:
    """See that a version, loaded from the registry by a process of its own, predicts what it did at training.

    Args:
        services: the outside world.
        version: to try.
        training: the record of its training.

    Raises:
        ArtifactCorrupt: the registry serves other bytes than were registered.
        RegistryError: the version's file is gone, or nothing tells what its bytes should be.
        VerificationFailed: the model does not predict what it predicted when it was trained.
        ServiceUnavailable: the registry does not answer, or the process took too long.
    """
    expected, got = _flat(training["smoke"]["predictions"]), _flat(services.smoke_test(version, training))
    if len(got) == len(expected) and all(
        math.isclose(ours, theirs, rel_tol=TOLERANCE, abs_tol=_TINY) for ours, theirs in zip(got, expected, strict=True)
    ):
        return
    worst = max((abs(ours - theirs) for ours, theirs in zip(got, expected, strict=False)), default=0.0)
    raise VerificationFailed(
        "the registered model does not predict what it predicted when it was trained",
        where=f"model {version.model}, version {version.version}",
        expected=f"the {len(expected)} numbers stored at training, within {TOLERANCE:g}",
        got=f"numbers off by {worst:.6g}" if len(got) == len(expected) else f"{len(got)} numbers",
        fix="deploy with the package versions that the training record lists, or train again",
    )


def _flat(predictions: Any) -> list[float]:
    """Predictions of rows, or of rows and classes, as one list."""
    if isinstance(predictions, list):
        return [number for each in predictions for number in _flat(each)]
    return [float(predictions)]


def move_aliases(registry: Registry, version: ModelVersion, old: ModelVersion | None) -> str | None:
    """`previous` <- the old champion, `champion` <- the version, and read both back. Repeating it changes nothing.

    Args:
        registry: where the aliases are.
        version: to serve; if it is the challenger, it no longer is.
        old: the champion of this moment.

    Returns:
        The version that `previous` points to now, None if it points nowhere.

    Raises:
        RegistryError: an alias is not what it was set to.
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


def _read_back(found: ModelVersion | None, alias: str, wanted: ModelVersion) -> None:
    got = found.version if found else None
    if got != wanted.version:
        raise RegistryError(
            f"alias {alias} does not point where it was set to",
            where=f"model {wanted.model}",
            expected=f"version {wanted.version}",
            got=f"version {got}" if got else "no such alias",
            fix="look who else sets aliases in the registry, then run the step again",
        )
