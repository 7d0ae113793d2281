"""The files of a version: their digests are recorded at registration and verified before any use.

A client of the registry loads a whole folder: the model file, its description, requirements and examples. The registry
is not trusted with the digests. They stand in the ledger entry of the run that registered the version.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping

from ml_pipelines.contracts import ArtifactRef
from ml_pipelines.errors import ArtifactCorrupt, RegistryError, ServiceUnavailable
from ml_pipelines.ports import Ledger, ModelVersion, Registry
from ml_pipelines.ports.ledger_entry import VersionRecord
from ml_pipelines.promotion.history import is_in_progress, iter_entries

__all__ = ["RUN_END_SECONDS", "find_record", "new_record", "recorded_version", "verified_model_bytes"]

RUN_END_SECONDS = 60.0  # from the deployment of a version to the ledger entry of its run
_POLL_SECONDS = 1.0


def new_record(registry: Registry, ledger: Ledger, version: ModelVersion, training: ArtifactRef) -> VersionRecord:
    """Return the record of a version that a run has registered in this moment.

    Args:
        registry: the registry that serves the files.
        ledger: has a record already if another run registered the same model before.
        version: the version; its artifact is the file that the run evaluated.
        training: training record of the model.

    Raises:
        ArtifactCorrupt: the model file is not the evaluated one, or a file differs from the earlier record.
        RegistryError: the folder contains what a pipeline never writes.
        ServiceUnavailable: the registry does not answer.
    """
    artifact = _artifact(version)
    digests = _digests(registry.fetch_files(version))
    earlier = find_record(ledger, version)
    if artifact.sha256 not in digests.values() or (earlier is not None and earlier.files != digests):
        raise _changed(version, earlier.files if earlier else {"model file": artifact.sha256}, digests)
    return VersionRecord(version=version.version, sha256=artifact.sha256, training=training, files=digests)


def recorded_version(ledger: Ledger, version: ModelVersion, *, wait_seconds: float = 0.0) -> VersionRecord:
    """Return the record of a version in the ledger.

    Args:
        ledger: ledger of the run that registered the version.
        version: the version.
        wait_seconds: time limit for a run that has deployed the version and not ended yet. Its model's asset has an
            event seconds before its entry exists. The caller must not hold the model lock, which that run needs.

    Raises:
        RegistryError: no pipeline registered the version, or the ledger has no record of its files.
        ServiceUnavailable: the run that registered the version has not ended.
        ArtifactCorrupt: the tag of the registry names another model file.
    """
    _artifact(version)
    end = time.monotonic() + wait_seconds
    while (record := find_record(ledger, version)) is None:
        waits = is_in_progress(ledger, version.tags)
        if not waits or time.monotonic() >= end:
            raise _unrecorded(version, waits=waits)
        time.sleep(_POLL_SECONDS)
    _check_tag(version, record)
    return record


def find_record(ledger: Ledger, version: ModelVersion) -> VersionRecord | None:
    """Return the latest record of a version; None if no entry has one."""
    records = (entry.details.registered for entry in iter_entries(ledger, version.model))
    return next((record for record in records if record and record.version == version.version), None)


def verified_model_bytes(registry: Registry, version: ModelVersion, record: VersionRecord) -> bytes:
    """Return the bytes of a version's model file, after every file of the version was verified.

    Raises:
        ArtifactCorrupt: the registry serves a changed, added or missing file, or its tag names another model file.
        RegistryError: the folder is gone, or contains what a pipeline never writes.
        ServiceUnavailable: the registry does not answer.
    """
    _check_tag(version, record)
    files = registry.fetch_files(version)
    digests = _digests(files)
    if digests != record.files:
        raise _changed(version, record.files, digests)
    return next(data for name, data in files.items() if digests[name] == record.sha256)


def _digests(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}


def _artifact(version: ModelVersion) -> ArtifactRef:
    if version.artifact is None:
        raise RegistryError(
            f"version {version.version} was not registered by a pipeline, so its model file can't be verified",
            where=_where(version),
            expected="the tag ml_pipelines.artifact with the file's digest, as the register step writes it",
            got="no such tag",
            fix="train and register the model with a pipeline, or set the alias in the registry yourself",
        )
    return version.artifact


def _check_tag(version: ModelVersion, record: VersionRecord) -> None:
    digest = _artifact(version).sha256
    if digest != record.sha256:
        raise _changed(version, {"model file": record.sha256}, {"model file": digest})


def _where(version: ModelVersion) -> str:
    return f"model {version.model}, version {version.version}"


def _changed(version: ModelVersion, expected: Mapping[str, str], got: Mapping[str, str]) -> ArtifactCorrupt:
    names = sorted(name for name in {*expected, *got} if expected.get(name) != got.get(name))
    return ArtifactCorrupt(
        "the registry serves other files than were registered",
        where=_where(version),
        expected=", ".join(f"{name} with sha256 {expected.get(name)}" for name in names if name in expected),
        got="; ".join(f"{name} with sha256 {got[name]}" if name in got else f"no {name}" for name in names),
        fix="check which other process writes to the registry's artifacts, then train again",
    )


def _unrecorded(version: ModelVersion, *, waits: bool) -> RegistryError | ServiceUnavailable:
    kind = ServiceUnavailable if waits else RegistryError
    return kind(
        f"the ledger has no record of the files of version {version.version}",
        where=_where(version),
        expected="the ledger entry of the run that registered the version",
        got="the run has no entry yet" if waits else "no entry with this version",
        fix="wait for the end of that run" if waits else "connect the ledger of that run, or train again",
    )
