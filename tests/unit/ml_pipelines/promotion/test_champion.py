"""A run holds its candidates against the champion that was there before it."""

from __future__ import annotations

import pytest

from ml_pipelines.contracts import Identity
from ml_pipelines.errors import ServiceUnavailable
from ml_pipelines.ports import TrackedModel
from ml_pipelines.promotion.champion import champion_before_run
from ml_pipelines.testing import FakeServices

MONDAY, TUESDAY = (Identity(pipeline="churn", run_id=day, task_id="decide") for day in ("monday", "tuesday"))


@pytest.fixture
def services() -> FakeServices:
    """Monday's model is the previous one, Tuesday's the champion."""
    services = FakeServices()
    for number, (identity, alias) in enumerate(((MONDAY, "previous"), (TUESDAY, "champion"))):
        ref = services.put(f"model {number}".encode(), kind="model")
        tracked = TrackedModel(f"run {number}", f"models:/m-{number}")
        version = services.registry.register("churn", tracked, ref, identity, {})
        services.registry.set_alias("churn", version.version, alias)
    return services


def version_before(services: FakeServices, identity: Identity) -> str | None:
    champion = champion_before_run(services.registry, "churn", identity)
    return champion.version if champion else None


def test_a_later_run_has_to_beat_the_champion(services: FakeServices) -> None:
    assert version_before(services, MONDAY.model_copy(update={"run_id": "wednesday"})) == "2"


def test_a_second_try_has_to_beat_the_one_before(services: FakeServices) -> None:
    assert version_before(services, TUESDAY) == "1"


def test_a_run_of_the_same_name_in_another_pipeline_is_another_run(services: FakeServices) -> None:
    assert version_before(services, TUESDAY.model_copy(update={"pipeline": "other"})) == "2"


def test_a_second_try_of_the_first_run_has_nothing_to_beat(services: FakeServices) -> None:
    services.registry.drop_alias("churn", "previous")
    assert version_before(services, TUESDAY) is None


def test_no_champion_is_none(services: FakeServices) -> None:
    services.registry.drop_alias("churn", "champion")
    assert version_before(services, TUESDAY) is None


def test_a_registry_that_is_down_is_worth_another_try(services: FakeServices) -> None:
    services.registry.down = True
    with pytest.raises(ServiceUnavailable, match="the model registry does not answer"):
        version_before(services, MONDAY)
