"""Promotion and rollback with a registry in memory. In a running Airflow: tests/integration/airflow."""

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
from ml_pipelines.ports.ledger_entry import LedgerEntry, RolledBackVersion, RunDetails
from ml_pipelines.promotion.deployment import TRAINING_TAG
from ml_pipelines.promotion.history import rolled_back_models
from ml_pipelines.promotion.model_files import new_record
from ml_pipelines.testing import FakeRegistry, FakeServices
from ml_pipelines_airflow.assets import model_asset
from ml_pipelines_airflow.operators import models as operators
from ml_pipelines_airflow.operators.models import PromoteModelOperator, RollbackModelOperator, WatchRegistryOperator

IDENTITY = Identity(pipeline="churn", run_id="r", task_id="register")
TRAINING_PIPELINE = "training"


class Services(FakeServices):
    """Services with a fixed prediction in smoke tests; no model is loaded."""

    answer = 0.5

    def smoke_test(self, version: ModelVersion, data: bytes, training: Any) -> list[Any]:
        return [self.answer]


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Services:
    """Three versions of `churn`: 1 is `previous`, 2 the champion and 3 the challenger."""
    services = Services()
    for number in range(3):
        data = b"model %d" % number
        services.tracking.files[f"models:/m-{number}"] = data
        artifact = services.put(data, kind="model")
        training = services.put(json.dumps({"smoke": {"predictions": [0.5]}}).encode(), kind="json")
        tags = {TRAINING_TAG: training.model_dump_json()}
        tracked = TrackedModel("run", f"models:/m-{number}")
        version = services.registry.register("churn", tracked, artifact, IDENTITY, tags)
        details = RunDetails(registered=new_record(services.registry, services.ledger, version, training))
        trained = Identity(pipeline=TRAINING_PIPELINE, run_id=str(number), task_id="record")
        services.ledger.record(trained, Decision(outcome="held", model="churn", reason="so"), details)
    for alias, number in {"previous": "1", "champion": "2", "challenger": "3"}.items():
        services.registry.set_alias("churn", number, alias)
    monkeypatch.setattr(operators, "airflow_settings", lambda connection: connection)
    monkeypatch.setattr(operators, "ConnectedServices", lambda connection: services)
    return services


def changes(services: Services) -> list[LedgerEntry]:
    """The entries since the trainings, the newest first."""
    return [entry for entry in services.ledger.entries("churn") if entry.pipeline != TRAINING_PIPELINE]


@pytest.fixture
def registry(services: Services) -> FakeRegistry:
    return services.registry


class State(dict[str, Any]):
    """The state of a task, which Airflow keeps for retries."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value


class Events(dict[Any, Any]):
    def __missing__(self, asset: Any) -> Any:
        event = SimpleNamespace(extra={}, added={})
        event.add = lambda asset, extra: event.added.update({asset.name: extra})
        return self.setdefault(asset, event)


def make_context(state: State | None = None, run_id: str = "monday") -> Any:
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


def test_promote_deploys_the_challenger_by_default(registry: FakeRegistry) -> None:
    done = promote().execute(make_context())
    assert done == {"model": "churn", "version": "3", "previous_version": "2"}
    assert aliases(registry) == {"champion": "3", "previous": "2"}


@pytest.mark.parametrize("version", [1, "1"])
def test_promote_deploys_a_version(registry: FakeRegistry, version: int | str) -> None:
    assert promote(version=version).execute(make_context())["version"] == "1"
    assert aliases(registry) == {"champion": "1", "previous": "2", "challenger": "3"}


def test_promote_of_the_champion_changes_no_alias(services: Services) -> None:
    before = aliases(services.registry)
    for _ in range(2):
        assert promote(version="2").execute(make_context()) == {
            "model": "churn",
            "version": "2",
            "previous_version": "1",
        }
    assert aliases(services.registry) == before
    assert [entry.details.version for entry in changes(services)] == ["2"]


def test_ledger_records_promotion_and_rollback(services: Services) -> None:
    promote().execute(make_context())
    rollback(reason="complaints").execute(make_context(run_id="tuesday"))
    rolled_back, promoted = changes(services)
    assert (promoted.pipeline, promoted.run_id, promoted.run_url) == (
        "ops",
        "monday",
        "http://airflow/dags/ops/runs/monday",
    )
    assert promoted.decision.outcome == "promoted"
    assert "task t of ops" in promoted.decision.reason
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
    promote(version="3").execute(make_context(run_id="wednesday"))
    assert rolled_back_models(services.ledger, "churn") == {}


@pytest.mark.parametrize("operator", [promote(version="1"), rollback()])
def test_failed_smoke_test_changes_nothing(services: Services, operator: Any) -> None:
    before = aliases(services.registry)
    services.answer = 0.7
    with pytest.raises(
        VerificationFailed, match="the predictions of the registered model differ from those at training"
    ):
        operator.execute(make_context())
    assert aliases(services.registry) == before
    assert changes(services) == []


def test_version_without_a_record_in_the_ledger_raises(services: Services) -> None:
    services.ledger.written = [entry for entry in services.ledger.written if entry.run_id != "0"]
    services.ledger.record(IDENTITY, Decision(outcome="held", model="churn", reason="so"), RunDetails())
    with pytest.raises(RegistryError, match="the ledger has no record of the files of version 1") as caught:
        rollback().execute(make_context())
    assert caught.value.where == "model churn, version 1"


@pytest.mark.parametrize("operator", [promote(version="1"), rollback(), rollback(to="1")])
def test_a_file_that_was_added_to_the_folder_changes_nothing(services: Services, operator: Any) -> None:
    before = aliases(services.registry)
    services.registry.extra_files["code/evil.py"] = b"import os"
    with pytest.raises(ArtifactCorrupt) as caught:
        operator.execute(make_context())
    assert "code/evil.py" in caught.value.got
    assert (aliases(services.registry), changes(services)) == (before, [])


def test_rollback_to_the_champion_raises(services: Services) -> None:
    promote(version="2").execute(make_context())
    with pytest.raises(RegistryError, match="version 2 is the champion already"):
        rollback(to="2").execute(make_context(run_id="tuesday"))


def test_external_change_is_recorded_once(services: Services) -> None:
    from airflow.sdk import AssetAlias

    watch = WatchRegistryOperator(task_id="check", outlets=[AssetAlias("moved")])
    assert watch.execute(make_context()) == {}
    promote().execute(make_context())
    assert watch.execute(make_context()) == {}
    services.ledger.record(IDENTITY, Decision(outcome="held", model="churn", reason="so"), RunDetails())
    services.registry.set_alias("churn", "1", "champion")
    context = make_context()
    sentence = "the alias champion was changed externally, from version 3 to version 1"
    assert watch.execute(context) == {"churn": sentence}
    (event,) = context["outlet_events"].values()
    assert event.added == {"churn": {"model": "churn", "version": "1", "reason": sentence}}
    assert watch.execute(make_context()) == {}
    entry = changes(services)[0]
    assert (entry.decision.outcome, entry.decision.reason, entry.pipeline) == ("external_change", sentence, "registry")
    assert (entry.details.version, entry.details.previous_version) == ("1", "3")
    services.registry.drop_alias("churn", "champion")
    assert watch.execute(make_context()) == {
        "churn": "the alias champion was changed externally, from version 1 to no version"
    }
    assert watch.execute(make_context()) == {}


def test_change_of_a_running_training_is_not_external(services: Services) -> None:
    promote(version="2").execute(make_context())
    services.registry.set_alias("churn", "3", "champion")  # a running training records it later
    assert WatchRegistryOperator(task_id="check").execute(make_context()) == {}


def test_rollback_after_an_external_change_needs_a_version(services: Services) -> None:
    promote(version="2").execute(make_context())
    services.ledger.record(IDENTITY, Decision(outcome="held", model="churn", reason="so"), RunDetails())
    services.registry.set_alias("churn", "3", "champion")
    with pytest.raises(RegistryError, match="the previous version is ambiguous") as caught:
        rollback().execute(make_context(run_id="tuesday"))
    assert caught.value.got == "the alias champion was changed externally, from version 2 to version 3"
    rollback(to="1").execute(make_context(run_id="tuesday"))
    outcomes = [entry.decision.outcome for entry in changes(services)]
    assert outcomes == ["rolled_back", "external_change", "held", "promoted"]


def test_rollback_deploys_the_previous_champion(registry: FakeRegistry) -> None:
    done = rollback(reason="complaints").execute(make_context())
    assert done == {"model": "churn", "version": "1", "previous_version": "2"}
    assert aliases(registry) == {"champion": "1", "previous": "2", "challenger": "3"}


@pytest.mark.parametrize("operator", [promote, rollback])
@pytest.mark.parametrize("calls", range(3))
def test_retry_completes_an_interrupted_change(
    services: Services, monkeypatch: pytest.MonkeyPatch, operator: Any, calls: int
) -> None:
    promote(version="2").execute(make_context(run_id="before"))
    registry = services.registry
    state, left, set_alias = State(), [calls], registry.set_alias

    def failing_set_alias(*arguments: str) -> None:
        if left[0] == 0:
            raise ServiceUnavailable("pulled the plug")
        left[0] -= 1
        set_alias(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(registry, "set_alias", failing_set_alias)
        if calls < 2:
            with pytest.raises(ServiceUnavailable, match="pulled the plug"):
                operator().execute(make_context(state))
        else:  # the task was killed after its last change
            operator().execute(make_context(state))
    done = operator().execute(make_context(state))
    assert len(changes(services)) == 2
    expected = "3" if operator is promote else "1"
    assert done == {"model": "churn", "version": expected, "previous_version": "2"}
    assert (aliases(registry)["champion"], aliases(registry)["previous"]) == (expected, "2")


@pytest.mark.parametrize("operator", [promote(version="1"), rollback(), rollback(to="1")])
def test_altered_model_file_changes_nothing(registry: FakeRegistry, operator: Any) -> None:
    before = aliases(registry)
    registry.files["models:/m-0"] = b"forged"
    with pytest.raises(ArtifactCorrupt, match="the registry serves other files than were registered"):
        operator.execute(make_context())
    assert aliases(registry) == before


NO_ALIAS = "no version has the alias staging"
NO_VERSION = "there is no version 9"


@pytest.mark.parametrize(
    ("operator", "text"),
    [(promote(from_alias="staging"), NO_ALIAS), (promote(version=9), NO_VERSION), (rollback(to="9"), NO_VERSION)],
)
def test_missing_version_raises(registry: FakeRegistry, operator: Any, text: str) -> None:
    with pytest.raises(RegistryError) as caught:
        operator.execute(make_context())
    assert (caught.value.what, caught.value.where) == (text, "model churn")


def test_rollback_without_a_previous_version_raises(registry: FakeRegistry) -> None:
    registry.drop_alias("churn", "previous")
    with pytest.raises(RegistryError, match="no version has the alias previous"):
        rollback().execute(make_context())


def test_asset_event_describes_the_change_if_the_asset_is_an_outlet(registry: FakeRegistry) -> None:
    context, asset, other = make_context(), model_asset("churn"), model_asset("other")
    done = rollback(reason="complaints", outlets=[asset, other]).execute(context)
    assert {outlet.name: event.extra for outlet, event in context["outlet_events"].items()} == {
        "churn": {**done, "reason": "complaints"}
    }
    context = make_context()
    promote(outlets=[other]).execute(context)
    assert context["outlet_events"] == {}


def test_task_links_to_the_page_of_the_version(registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    context = make_context()
    promote(version="1").execute(context)
    assert context["ti"].pushed == {}
    url = "http://mlflow/#/models/churn/versions/1"
    registry.versions["churn"][0] = replace(registry.versions["churn"][0], url=url)
    promote(version="1").execute(context)
    assert context["ti"].pushed == {"model_version_url": url}
    assert [link.name for link in PromoteModelOperator.operator_extra_links] == ["Model version"]


@pytest.mark.parametrize("operator_class", [PromoteModelOperator, RollbackModelOperator])
def test_operators_have_templates_and_keyword_arguments_only(operator_class: Any) -> None:
    with pytest.raises(TypeError):
        operator_class("t", "churn")
    with DAG("d", schedule=None):
        task = operator_class(task_id="t", model="{{ params.model }}")
    assert {"model", "mlflow_conn_id"} <= set(task.template_fields)
    assert all(hasattr(task, name) for name in task.template_fields)
