"""A version is used only with the files that its run recorded."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from ml_pipelines.contracts import ArtifactRef, Decision, Identity
from ml_pipelines.errors import ArtifactCorrupt, RegistryError, ServiceUnavailable
from ml_pipelines.ports import ModelVersion, TrackedModel
from ml_pipelines.ports.ledger_entry import RunDetails, VersionRecord
from ml_pipelines.promotion import model_files
from ml_pipelines.promotion.model_files import find_record, new_record, recorded_version, verified_model_bytes
from ml_pipelines.testing import FakeLedger, FakeRegistry

IDENTITY = Identity(pipeline="churn", run_id="r", task_id="register")
TRAINING = ArtifactRef(uri="file:///t", sha256="1" * 64, bytes=1, kind="json")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def registry() -> FakeRegistry:
    registry = FakeRegistry({"models:/m-1": b"model"})
    registry.extra_files = {"MLmodel": b"flavors", "requirements.txt": b"skops"}
    return registry


@pytest.fixture
def version(registry: FakeRegistry) -> ModelVersion:
    artifact = ArtifactRef(uri="file:///1", sha256=sha256(b"model"), bytes=5, kind="model")
    return registry.register("churn", TrackedModel("run", "models:/m-1"), artifact, IDENTITY, {})


@pytest.fixture
def record(registry: FakeRegistry, version: ModelVersion) -> VersionRecord:
    return new_record(registry, FakeLedger(), version, TRAINING)


def write(ledger: FakeLedger, record: VersionRecord | None, run_id: str = "r") -> None:
    decision = Decision(outcome="promoted", model="churn", reason="so")
    ledger.record(IDENTITY.model_copy(update={"run_id": run_id}), decision, RunDetails(registered=record))


def test_the_record_has_every_file(record: VersionRecord) -> None:
    assert record == VersionRecord(
        version="1",
        sha256=sha256(b"model"),
        training=TRAINING,
        files={"MLmodel": sha256(b"flavors"), "model.skops": sha256(b"model"), "requirements.txt": sha256(b"skops")},
    )


def test_the_model_file_is_returned_after_all_files_were_verified(
    registry: FakeRegistry, version: ModelVersion, record: VersionRecord
) -> None:
    assert verified_model_bytes(registry, version, record) == b"model"


@pytest.mark.parametrize(
    ("name", "data", "got"),
    [
        ("MLmodel", b"other", f"MLmodel with sha256 {sha256(b'other')}"),
        ("MLmodel", None, "no MLmodel"),
        ("code/evil.py", b"", f"code/evil.py with sha256 {sha256(b'')}"),
        (
            "requirements.txt",
            b"skops\nevil",
            f"requirements.txt with sha256 {sha256(b'skops' + bytes([10]) + b'evil')}",
        ),
    ],
)
def test_a_changed_added_or_missing_file_is_refused(
    registry: FakeRegistry, version: ModelVersion, record: VersionRecord, name: str, data: bytes | None, got: str
) -> None:
    registry.extra_files.pop(name, None)
    registry.extra_files |= {} if data is None else {name: data}
    with pytest.raises(ArtifactCorrupt) as caught:
        verified_model_bytes(registry, version, record)
    assert (caught.value.where, caught.value.got) == ("model churn, version 1", got)


def test_a_changed_model_file_is_refused(registry: FakeRegistry, version: ModelVersion, record: VersionRecord) -> None:
    registry.files["models:/m-1"] = b"forged"
    with pytest.raises(ArtifactCorrupt, match="the registry serves other files than were registered") as caught:
        verified_model_bytes(registry, version, record)
    assert caught.value.expected == f"model.skops with sha256 {sha256(b'model')}"


def test_the_ledger_has_the_latest_record_of_each_version(version: ModelVersion, record: VersionRecord) -> None:
    ledger = FakeLedger()
    assert find_record(ledger, version) is None
    write(ledger, record.model_copy(update={"files": {}}), "first")
    write(ledger, record, "second")
    write(ledger, record.model_copy(update={"version": "2"}), "third")
    write(ledger, None, "fourth")
    assert find_record(ledger, version) == recorded_version(ledger, version) == record


def test_a_version_of_unknown_origin_is_refused(version: ModelVersion) -> None:
    with pytest.raises(RegistryError) as caught:
        recorded_version(FakeLedger(), replace(version, artifact=None))
    assert caught.value.what.startswith("version 1 was not registered by a pipeline")
    assert caught.value.where == "model churn, version 1"


def test_a_tag_that_names_another_file_is_refused(version: ModelVersion, record: VersionRecord) -> None:
    ledger = FakeLedger()
    write(ledger, record)
    assert version.artifact is not None
    other = replace(version, artifact=version.artifact.model_copy(update={"sha256": "f" * 64}))
    with pytest.raises(ArtifactCorrupt) as caught:
        recorded_version(ledger, other)
    assert caught.value.got == f"model file with sha256 {'f' * 64}"


def test_a_version_without_a_record_is_refused(version: ModelVersion) -> None:
    ledger = FakeLedger()
    write(ledger, None)
    with pytest.raises(RegistryError, match="the ledger has no record of the files of version 1"):
        recorded_version(ledger, version)


def test_the_end_of_a_run_is_waited_for(version: ModelVersion, record: VersionRecord, monkeypatch: Any) -> None:
    ledger = FakeLedger()
    with pytest.raises(ServiceUnavailable) as caught:
        recorded_version(ledger, version)
    assert caught.value.got == "the run has no entry yet"
    monkeypatch.setattr(model_files.time, "sleep", lambda _: write(ledger, record))
    assert recorded_version(ledger, version, wait_seconds=60) == record
