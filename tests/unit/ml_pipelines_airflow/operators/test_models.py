"""Promote and roll back, with a registry in memory; in a running Airflow: tests/integration/airflow."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG

from ml_pipelines.contracts import Decision, Identity
from ml_pipelines.errors import ArtifactCorrupt, RegistryError, ServiceUnavailable, VerificationFailed
from ml_pipelines.ports import ModelVersion, TrackedModel
from ml_pipelines.ports.ledger_entry import RolledBackVersion, RunDetails
from ml_pipelines.promotion.deployment import TRAINING_TAG, verified_model_bytes
from ml_pipelines.promotion.history import rolled_back_models
from ml_pipelines.testing import FakeRegistry, FakeServices
from ml_pipelines_airflow.assets import model_asset
from ml_pipelines_airflow.operators import models as operators
from ml_pipelines_airflow.operators.models import PromoteModelOperator, RollbackModelOperator, WatchRegistryOperator

IDENTITY = Identity(pipeline="churn", run_id="r", task_id="register")


class Services(FakeServices):
    """A model answers what its bytes were trained to; nothing is loaded."""

    answer = 0.5

    def smoke_test(self, version: ModelVersion, training: Any) -> list[Any]:
        verified_model_bytes(self.registry, version)
        return [self.answer]


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Services:
    """Three versions of `churn`: 1 was the champion before 2; 3 is the challenger. The ledger knows of none."""
    made = Services()
    for number in range(3):
        data = b"model %d" % number
        made.tracking.files[f"models:/m-{number}"] = data
        artifact = made.put(data, kind="model")
        training = made.put(json.dumps({"smoke": {"predictions": [0.5]}}).encode(), kind="json")
        tags = {TRAINING_TAG: training.model_dump_json()}
        made.registry.register("churn", TrackedModel("run", f"models:/m-{number}"), artifact, IDENTITY, tags)
    for alias, number in {"previous": "1", "champion": "2", "challenger": "3"}.items():
        made.registry.set_alias("churn", number, alias)
    monkeypatch.setattr(operators, "airflow_settings", lambda connection: connection)
    monkeypatch.setattr(operators, "ConnectedServices", lambda connection: made)
    return made


@pytest.fixture
def registry(services: Services) -> FakeRegistry:
    return services.registry


class State(dict[str, Any]):
    """What survives a retry."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value


class Events(dict[Any, Any]):
    def __missing__(self, asset: Any) -> Any:
        event = SimpleNamespace(extra={}, added={})
        event.add = lambda asset, extra: event.added.update({asset.name: extra})
        return self.setdefault(asset, event)


def a_context(state: State | None = None, run_id: str = "monday") -> Any:
    pushed: dict[str, Any] = {}
    ti = SimpleNamespace(
        xcom_push=lambda *, key, value: pushed.update({key: value}),
        pushed=pushed,
        log_url="http://airflow/dags/ops/runs/monday/tasks/t",
        dag_id="ops",
        run_id=run_id,
        task_id="t",
    )
    return {"ti": ti, "task_state_store": State() if state is None else state, "outlet_events": Events()}


def aliases(registry: FakeRegistry) -> dict[str, str]:
    return {alias: version for (_, alias), version in registry.aliases.items()}


def promote(**options: Any) -> PromoteModelOperator:
    return PromoteModelOperator(task_id="promote", model="churn", **options)


def rollback(**options: Any) -> RollbackModelOperator:
    return RollbackModelOperator(task_id="rollback", model="churn", **options)


def test_the_challenger_is_promoted(registry: FakeRegistry) -> None:
    done = promote().execute(a_context())
    assert done == {"model": "churn", "version": "3", "previous_version": "2"}
    assert aliases(registry) == {"champion": "3", "previous": "2"}


@pytest.mark.parametrize("version", [1, "1"])
def test_a_version_is_promoted(registry: FakeRegistry, version: int | str) -> None:
    assert promote(version=version).execute(a_context())["version"] == "1"
    assert aliases(registry) == {"champion": "1", "previous": "2", "challenger": "3"}


def test_today_s_champion_is_promoted_without_a_change(services: Services) -> None:
    before = aliases(services.registry)
    for _ in range(2):
        assert promote(version="2").execute(a_context()) == {"model": "churn", "version": "2", "previous_version": "1"}
    assert aliases(services.registry) == before
    assert [entry.details.version for entry in services.ledger.entries("churn")] == ["2"]


def test_a_change_is_written_down(services: Services) -> None:
    promote().execute(a_context())
    rollback(reason="complaints").execute(a_context(run_id="tuesday"))
    rolled_back, promoted = services.ledger.entries("churn")
    assert (promoted.pipeline, promoted.run_id, promoted.run_url) == (
        "ops",
        "monday",
        "http://airflow/dags/ops/runs/monday",
    )
    assert promoted.decision.outcome == "promoted"
    assert promoted.decision.reason == "task t of ops promotes it without a gate"
    third, second = (services.registry.by_version("churn", number) for number in ("3", "2"))
    assert promoted.details == RunDetails(version="3", previous_version="2", sha256=third.artifact.sha256)
    assert (rolled_back.decision.outcome, rolled_back.decision.reason) == ("rolled_back", "complaints")
    assert rolled_back.decision.champion_version == "3"
    assert rolled_back.details == RunDetails(
        version="2",
        previous_version="3",
        sha256=second.artifact.sha256,
        withdrawn=RolledBackVersion(version="3", sha256=third.artifact.sha256),
    )
    assert list(rolled_back_models(services.ledger, "churn")) == [third.artifact.sha256]
    promote(version="3").execute(a_context(run_id="wednesday"))
    assert rolled_back_models(services.ledger, "churn") == {}


@pytest.mark.parametrize("operator", [promote(version="1"), rollback()])
def test_a_model_that_predicts_something_else_does_not_serve(services: Services, operator: Any) -> None:
    before = aliases(services.registry)
    services.answer = 0.7
    with pytest.raises(
        VerificationFailed, match="the predictions of the registered model differ from those at training"
    ):
        operator.execute(a_context())
    assert aliases(services.registry) == before
    assert services.ledger.entries("churn") == ()


def test_a_version_without_a_training_record_does_not_serve(services: Services) -> None:
    versions = services.registry.versions["churn"]
    versions[0] = replace(versions[0], tags={})
    with pytest.raises(RegistryError, match="version 1 has no training record") as caught:
        rollback().execute(a_context())
    assert (caught.value.got, caught.value.where) == ("no such tag", "model churn, version 1")
    assert caught.value.fix.startswith("train and register the model with a pipeline")


def test_what_serves_already_is_nothing_to_go_back_to(services: Services) -> None:
    promote(version="2").execute(a_context())
    with pytest.raises(RegistryError, match="version 2 is the champion already"):
        rollback(to="2").execute(a_context(run_id="tuesday"))


def test_a_champion_that_was_moved_outside_is_noted_once(services: Services) -> None:
    from airflow.sdk import AssetAlias

    watch = WatchRegistryOperator(task_id="look", outlets=[AssetAlias("moved")])
    assert watch.execute(a_context()) == {}
    promote().execute(a_context())
    assert watch.execute(a_context()) == {}
    services.ledger.record(IDENTITY, Decision(outcome="held", model="churn", reason="so"), RunDetails())
    services.registry.set_alias("churn", "1", "champion")
    context = a_context()
    sentence = "the alias champion was changed externally, from version 3 to version 1"
    assert watch.execute(context) == {"churn": sentence}
    (event,) = context["outlet_events"].values()
    assert event.added == {"churn": {"model": "churn", "version": "1", "reason": sentence}}
    assert watch.execute(a_context()) == {}
    note = services.ledger.entries("churn")[0]
    assert (note.decision.outcome, note.decision.reason, note.pipeline) == ("external_change", sentence, "registry")
    assert (note.details.version, note.details.previous_version) == ("1", "3")
    services.registry.drop_alias("churn", "champion")
    assert watch.execute(a_context()) == {
        "churn": "the alias champion was changed externally, from version 1 to no version"
    }
    assert watch.execute(a_context()) == {}


def test_a_run_that_has_not_come_to_its_entry_is_nobody_outside(services: Services) -> None:
    promote(version="2").execute(a_context())
    services.registry.set_alias("churn", "3", "champion")  # as its run does, which records it later
    assert WatchRegistryOperator(task_id="look").execute(a_context()) == {}


def test_after_a_move_outside_the_previous_one_has_to_be_named(services: Services) -> None:
    promote(version="2").execute(a_context())
    services.ledger.record(IDENTITY, Decision(outcome="held", model="churn", reason="so"), RunDetails())
    services.registry.set_alias("churn", "3", "champion")
    with pytest.raises(RegistryError, match="the previous version is ambiguous") as caught:
        rollback().execute(a_context(run_id="tuesday"))
    assert caught.value.got == "the alias champion was changed externally, from version 2 to version 3"
    rollback(to="1").execute(a_context(run_id="tuesday"))
    outcomes = [entry.decision.outcome for entry in services.ledger.entries("churn")]
    assert outcomes == ["rolled_back", "external_change", "held", "promoted"]


def test_the_champion_before_serves_again(registry: FakeRegistry) -> None:
    done = rollback(reason="complaints").execute(a_context())
    assert done == {"model": "churn", "version": "1", "previous_version": "2"}
    assert aliases(registry) == {"champion": "1", "previous": "2", "challenger": "3"}


@pytest.mark.parametrize("operator", [promote, rollback])
@pytest.mark.parametrize("calls", range(3))
def test_a_try_that_was_interrupted_anywhere_is_finished_by_the_next(
    services: Services, monkeypatch: pytest.MonkeyPatch, operator: Any, calls: int
) -> None:
    promote(version="2").execute(a_context(run_id="before"))
    registry = services.registry
    state, left, set_alias = State(), [calls], registry.set_alias

    def interrupted(*arguments: str) -> None:
        if left[0] == 0:
            raise ServiceUnavailable("pulled the plug")
        left[0] -= 1
        set_alias(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(registry, "set_alias", interrupted)
        if calls < 2:
            with pytest.raises(ServiceUnavailable, match="pulled the plug"):
                operator().execute(a_context(state))
        else:  # it had done everything, and was killed before it could say so
            operator().execute(a_context(state))
    done = operator().execute(a_context(state))
    assert len(services.ledger.entries("churn")) == 2
    wanted = "3" if operator is promote else "1"
    assert done == {"model": "churn", "version": wanted, "previous_version": "2"}
    assert (aliases(registry)["champion"], aliases(registry)["previous"]) == (wanted, "2")


@pytest.mark.parametrize("operator", [promote(version="1"), rollback(), rollback(to="1")])
def test_other_bytes_do_not_serve(registry: FakeRegistry, operator: Any) -> None:
    before = aliases(registry)
    registry.files["models:/m-0"] = b"forged"
    with pytest.raises(ArtifactCorrupt, match="the registry returns another file than was registered"):
        operator.execute(a_context())
    assert aliases(registry) == before


NO_ALIAS = "no version has the alias staging\n  where: model churn\n  fix: register a version first, or give `version`"
NO_VERSION = "there is no version 9\n  where: model churn\n  fix: name a version that the registry lists"


@pytest.mark.parametrize(
    ("operator", "text"),
    [(promote(from_alias="staging"), NO_ALIAS), (promote(version=9), NO_VERSION), (rollback(to="9"), NO_VERSION)],
)
def test_a_version_that_is_not_there_is_told(registry: FakeRegistry, operator: Any, text: str) -> None:
    with pytest.raises(RegistryError) as caught:
        operator.execute(a_context())
    assert str(caught.value) == text


def test_without_a_champion_before_there_is_nothing_to_go_back_to(registry: FakeRegistry) -> None:
    registry.drop_alias("churn", "previous")
    with pytest.raises(RegistryError, match="no version has the alias previous"):
        rollback().execute(a_context())


def test_the_model_s_asset_tells_it_if_it_is_an_outlet(registry: FakeRegistry) -> None:
    context, asset, other = a_context(), model_asset("churn"), model_asset("other")
    done = rollback(reason="complaints", outlets=[asset, other]).execute(context)
    assert {each.name: event.extra for each, event in context["outlet_events"].items()} == {
        "churn": {**done, "reason": "complaints"}
    }
    context = a_context()
    promote(outlets=[other]).execute(context)
    assert context["outlet_events"] == {}


def test_a_task_links_to_the_version_if_there_is_a_page(
    registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = a_context()
    promote(version="1").execute(context)
    assert context["ti"].pushed == {}
    url = "http://mlflow/#/models/churn/versions/1"
    registry.versions["churn"][0] = replace(registry.versions["churn"][0], url=url)
    promote(version="1").execute(context)
    assert context["ti"].pushed == {"model_version_url": url}
    assert [link.name for link in PromoteModelOperator.operator_extra_links] == ["Model version"]


@pytest.mark.parametrize("kind", [PromoteModelOperator, RollbackModelOperator])
def test_they_are_templates_and_take_no_positions(kind: Any) -> None:
    with pytest.raises(TypeError):
        kind("t", "churn")
    with DAG("d", schedule=None):
        task = kind(task_id="t", model="{{ params.model }}")
    assert {"model", "mlflow_conn_id"} <= set(task.template_fields)
    assert all(hasattr(task, name) for name in task.template_fields)
