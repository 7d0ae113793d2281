"""What the fakes promise beyond what the tests of the steps show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ml_pipelines.contracts import DataPin, Decision, Identity
from ml_pipelines.errors import ArtifactCorrupt, ArtifactMissing, RegistryError, ServiceUnavailable, SourceNotFound
from ml_pipelines.ports import Services, TrackedModel, Training
from ml_pipelines.ports.ledger_entry import RunDetails
from ml_pipelines.spec.sources import FileSource
from ml_pipelines.testing import FakeServices

IDENTITY = Identity(pipeline="churn", run_id="r", task_id="train", map_index=0)


@pytest.fixture
def services() -> FakeServices:
    return FakeServices()


def training(services: FakeServices, data: bytes = b"model") -> Training:
    return Training(
        model="churn",
        candidate="linear",
        key="0" * 64,
        params={},
        metrics={"rows": 1.0},
        pin=DataPin(source="file", location="a.csv"),
        model_ref=services.put(data, kind="model"),
        model_bytes=data,
        requirements=[],
        trusted_types=[],
        features=[],
        example=[],
        predictions=[],
    )


def test_they_are_services(services: FakeServices) -> None:
    as_protocol: Services = services
    assert as_protocol.registry.by_alias("churn", "champion") is None


def test_an_identity_has_one_run_and_a_model_has_one_address(services: FakeServices) -> None:
    first, again = (services.tracking.log_training(IDENTITY, training(services)) for _ in range(2))
    other = services.tracking.log_training(IDENTITY, training(services, b"other"))
    assert first == again
    assert (other.run_id, other.model_uri) != (first.run_id, first.model_uri)
    assert other.run_id == first.run_id
    assert len(services.tracking.runs) == 1


def test_what_is_not_there_is_an_error(services: FakeServices) -> None:
    with pytest.raises(RegistryError, match="the run does not exist"):
        services.tracking.log_evaluation(TrackedModel("x", "models:/m-x"), {}, {}, {})
    with pytest.raises(RegistryError, match="there is no version 1 of churn"):
        services.registry.set_alias("churn", "1", "champion")
    with pytest.raises(SourceNotFound, match="there is no adapter for this source"):
        services.source(FileSource(path="a.csv"))
    services.registry.drop_alias("churn", "champion")
    assert services.ledger.entry("churn", "r") is None


def test_a_source_is_found_by_its_declaration(services: FakeServices) -> None:
    source: Any = object()
    services.add_source(FileSource(path="a.csv"), source)
    assert services.source(FileSource(path="a.csv")) is source


def test_bytes_are_verified(services: FakeServices) -> None:
    ref = services.put(b"one", kind="json")
    assert services.copy_artifact(ref, b"one") == ref
    with pytest.raises(ArtifactCorrupt, match="the bytes do not have the digest of the reference"):
        services.copy_artifact(ref, b"two")
    services.blobs[ref.uri] = b"two"
    with pytest.raises(ArtifactCorrupt, match="the bytes do not have the digest of the reference"):
        services.read(ref)
    del services.blobs[ref.uri]
    with pytest.raises(ArtifactMissing, match="the artifact does not exist"):
        services.read(ref)


CALLS: list[Callable[[FakeServices], Any]] = [
    lambda s: s.tracking.log_training(IDENTITY, training(s)),
    lambda s: s.tracking.log_evaluation(TrackedModel("x", "y"), {}, {}, {}),
    lambda s: s.tracking.close_abandoned("churn", 1.0),
    lambda s: s.registry.by_alias("churn", "champion"),
    lambda s: s.registry.set_alias("churn", "1", "champion"),
    lambda s: s.registry.drop_alias("churn", "champion"),
    lambda s: s.ledger.record(IDENTITY, Decision(outcome="held", model="churn", reason="so"), RunDetails()),
    lambda s: s.ledger.entry("churn", "r"),
    lambda s: s.ledger.entries("churn"),
    lambda s: s.ledger.models(),
    lambda s: s.ledger.verify("churn"),
    lambda s: s.ledger.lock("churn").__enter__(),
]


@pytest.mark.parametrize("call", CALLS)
def test_a_server_that_is_down_does_not_answer(services: FakeServices, call: Callable[[FakeServices], Any]) -> None:
    services.tracking.down = services.registry.down = services.ledger.down = True
    with pytest.raises(ServiceUnavailable, match="does not answer") as caught:
        call(services)
    assert caught.value.fix == "start it, then try again"
