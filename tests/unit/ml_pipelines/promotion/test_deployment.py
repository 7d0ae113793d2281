"""Aliases move, and only to what was registered. Interrupted tries are tested with the deploy step."""

from __future__ import annotations

import hashlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ml_pipelines.contracts import ArtifactRef, Identity
from ml_pipelines.ports import TrackedModel
from ml_pipelines.promotion.deployment import move_aliases
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


@given(st.lists(st.sampled_from("123"), min_size=1, max_size=6))
def test_previous_is_the_champion_before(served: list[str]) -> None:
    registry = a_registry()
    champion = previous = None
    for number in served:
        output = move_aliases(registry, version_of(registry, number), registry.by_alias("churn", "champion"))
        if champion not in (None, number):
            previous = champion
        champion = number
        assert output == previous
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
