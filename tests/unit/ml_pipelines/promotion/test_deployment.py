"""Aliases move, and only to what was registered. Interrupted tries are tested with the deploy step."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_pipelines.contracts import ArtifactRef, Identity
from ml_pipelines.errors import ArtifactCorrupt, RegistryError
from ml_pipelines.ports import TrackedModel
from ml_pipelines.promotion.deployment import move_aliases, verified_model_bytes
from ml_pipelines.testing import FakeRegistry

IDENTITY = Identity(pipeline="churn", run_id="r", task_id="register")


def a_registry(versions: int = 3) -> FakeRegistry:
    registry = FakeRegistry({f"models:/m-{number}": b"model %d" % number for number in range(versions)})
    for number in range(versions):
        data = b"model %d" % number
        digest = hashlib.sha256(data).hexdigest()
        artifact = ArtifactRef(uri=f"file:///{number}", sha256=digest, bytes=len(data), kind="model")
        registry.register("churn", TrackedModel("run", f"models:/m-{number}"), artifact, IDENTITY, {})
    return registry


def aliases(registry: FakeRegistry) -> dict[str, str]:
    return {alias: version for (_, alias), version in registry.aliases.items()}


def version_of(registry: FakeRegistry, number: str) -> Any:
    return registry.by_version("churn", number)


def test_the_bytes_that_were_registered_are_given() -> None:
    registry = a_registry()
    assert verified_model_bytes(registry, version_of(registry, "2")) == b"model 1"


def test_other_bytes_are_told() -> None:
    registry = a_registry()
    version = version_of(registry, "1")
    registry.files["models:/m-0"] = b"forged"
    with pytest.raises(ArtifactCorrupt) as caught:
        verified_model_bytes(registry, version)
    assert caught.value.what == "the registry returns another file than was registered"
    assert caught.value.where == "model churn, version 1"
    assert caught.value.expected == f"sha256 {hashlib.sha256(b'model 0').hexdigest()}"
    assert caught.value.got == f"sha256 {hashlib.sha256(b'forged').hexdigest()}"
    assert caught.value.fix.startswith("start the run again; if it fails again")


def test_a_version_of_unknown_origin_is_refused() -> None:
    registry = a_registry()
    with pytest.raises(RegistryError) as caught:
        verified_model_bytes(registry, replace(version_of(registry, "1"), artifact=None))
    assert str(caught.value) == (
        "version 1 was not registered by a pipeline, so its model file can't be verified\n"
        "  where: model churn, version 1\n"
        "  expected: the tag ml_pipelines.artifact with the file's digest, as the register step writes it\n"
        "  got: no such tag\n"
        "  fix: train and register the model with a pipeline, or set the alias in the registry yourself"
    )


@given(st.lists(st.sampled_from("123"), min_size=1, max_size=6))
def test_previous_is_the_champion_before(served: list[str]) -> None:
    registry = a_registry()
    champion = previous = None
    for number in served:
        told = move_aliases(registry, version_of(registry, number), registry.by_alias("churn", "champion"))
        if champion not in (None, number):
            previous = champion
        champion = number
        assert told == previous
        wanted = {"champion": champion} | ({"previous": previous} if previous else {})
        assert aliases(registry) == wanted


def test_only_the_challenger_that_serves_is_one_no_more() -> None:
    registry = a_registry()
    registry.set_alias("churn", "3", "challenger")
    move_aliases(registry, version_of(registry, "2"), None)
    assert aliases(registry) == {"champion": "2", "challenger": "3"}
    move_aliases(registry, version_of(registry, "3"), registry.by_alias("churn", "champion"))
    assert aliases(registry) == {"champion": "3", "previous": "2"}


def test_a_version_that_is_not_there_is_none() -> None:
    registry = a_registry()
    assert registry.by_version("churn", "4") is None
    assert registry.by_version("other", "1") is None
