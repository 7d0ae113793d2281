from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ml_pipelines.errors import ArtifactCorrupt, RegistryError, ServiceUnavailable, VerificationFailed
from ml_pipelines.modeling.serialization import dump_model
from ml_pipelines.pipeline.facts import FactsForDeployment, FactsForRegistration, RegisterFacts
from ml_pipelines.pipeline.step_parameters import DeployParameters, RegisterParameters
from ml_pipelines.steps.training import deploy, register

SEQUENCE = ("set_alias", "drop_alias")


@pytest.fixture(params=["binary", "multiclass", "regression"])
def any_run(request: Any, make_run: Any) -> Any:
    return make_run(request.param)


def registered(run: Any, index: int = 0) -> RegisterFacts:
    references = {"models": run.models, "trainings": run.trainings}
    facts = {"decide": run.decision(index=index)}
    work = run.work(RegisterParameters(model="churn"), references, facts, reads=FactsForRegistration)
    return RegisterFacts(**register.publish(work, run.services))


def deployed(run: Any, facts: RegisterFacts, *, index: int = 0, against: str | None = None) -> dict[str, Any]:
    earlier = {"decide": run.decision(index=index, champion_version=against), "register": facts}
    references = {"trainings": run.trainings}
    work = run.work(DeployParameters(model="churn"), references, earlier, reads=FactsForDeployment)
    return deploy.publish(work, run.services)


def aliases(run: Any) -> dict[str, str]:
    return {alias: version for (_, alias), version in run.services.registry.aliases.items()}


def test_a_first_model_becomes_the_champion(any_run: Any) -> None:
    version = registered(any_run)
    assert deployed(any_run, version) == {"version": "1", "previous_version": None}
    assert aliases(any_run) == {"champion": "1"}


def test_the_old_champion_becomes_the_previous_one(run: Any) -> None:
    old = run.champion(0)
    new = registered(run, 1)
    assert deployed(run, new, index=1, against=old) == {"version": "2", "previous_version": "1"}
    assert aliases(run) == {"champion": "2", "previous": "1"}


def test_a_retry_changes_nothing(run: Any) -> None:
    old = run.champion(0)
    new = registered(run, 1)
    first, second = (deployed(run, new, index=1, against=old) for _ in range(2))
    assert first == second
    assert aliases(run) == {"champion": "2", "previous": "1"}


@pytest.mark.parametrize("calls", range(4))
def test_a_try_that_was_interrupted_anywhere_is_finished_by_the_next(run: Any, monkeypatch: Any, calls: Any) -> None:
    old = run.champion(0)
    new = registered(run, 1)
    registry, left = run.services.registry, [calls]

    def interrupted(name: str) -> Any:
        call = getattr(registry, name)

        def counted(*arguments: Any) -> None:
            if left[0] == 0:
                raise ServiceUnavailable("pulled the plug")
            left[0] -= 1
            call(*arguments)

        return counted

    with monkeypatch.context() as patch:
        for name in SEQUENCE:
            patch.setattr(registry, name, interrupted(name))
        if calls < 3:
            with pytest.raises(ServiceUnavailable, match="pulled the plug"):
                deployed(run, new, index=1, against=old)
        else:
            deployed(run, new, index=1, against=old)
    assert deployed(run, new, index=1, against=old) == {"version": "2", "previous_version": "1"}
    assert aliases(run) == {"champion": "2", "previous": "1"}


def test_other_bytes_are_never_loaded(run: Any) -> None:
    version = registered(run)
    run.services.tracking.files[run.facts[0].model_uri] = b"forged"
    with pytest.raises(ArtifactCorrupt) as caught:
        deployed(run, version)
    assert caught.value.what == "the registry serves other files than were registered"
    assert caught.value.where == "model churn, version 1"
    assert caught.value.expected == f"model.skops with sha256 {run.models[0].sha256}"
    assert aliases(run) == {"challenger": "1"}


@pytest.mark.parametrize("changed", [{"MLmodel": b"code: code"}, {"code/evil.py": b"import os"}, {}])
def test_deploy_refuses_a_changed_added_or_missing_file(run: Any, changed: Any, monkeypatch: Any) -> None:
    run.services.registry.extra_files = {"MLmodel": b"flavors: {}"}
    facts = registered(run)
    run.services.registry.extra_files = {"MLmodel": b"flavors: {}", **changed} if changed else {}
    monkeypatch.setattr(run.services, "smoke_test", lambda *_: pytest.fail("the model was loaded"))
    with pytest.raises(ArtifactCorrupt) as caught:
        deployed(run, facts)
    assert all(name in caught.value.got for name in changed or ["no MLmodel"])
    assert aliases(run) == {"challenger": "1"}


def test_a_version_of_unknown_origin_is_never_loaded(run: Any) -> None:
    version = registered(run)
    registry = run.services.registry
    registry.versions["churn"] = [replace(registry.versions["churn"][0], artifact=None)]
    with pytest.raises(RegistryError, match="version 1 was not registered by a pipeline"):
        deployed(run, version)
    assert aliases(run) == {"challenger": "1"}


def test_a_model_that_predicts_something_else_is_not_deployed(run: Any) -> None:
    model = run.loader(run.models[0])()
    model[-1].coef_ += 0.5
    changed = run.services.put(dump_model(model), kind="model")
    run.models = (changed, run.models[1])
    run.services.tracking.files[run.facts[0].model_uri] = run.services.read(changed)
    version = registered(run)
    with pytest.raises(VerificationFailed) as caught:
        deployed(run, version)
    assert caught.value.what == "the predictions of the registered model differ from those at training"
    assert caught.value.expected == "the 10 numbers stored at training, within 1e-06"
    assert caught.value.got.startswith("numbers off by 0.")
    assert caught.value.fix == "deploy with the package versions that the training record lists, or train again"
    assert aliases(run) == {"challenger": "1"}


def test_predictions_of_another_shape_are_told(run: Any) -> None:
    record = run.records[0]
    record["smoke"]["predictions"] = record["smoke"]["predictions"][:3]
    run.trainings = (run.json(record), run.trainings[1])
    with pytest.raises(VerificationFailed) as caught:
        deployed(run, registered(run))
    assert caught.value.got == "10 numbers"


def test_a_challenger_of_another_run_is_not_deployed(run: Any) -> None:
    version = registered(run, 0)
    registered(run, 1)
    with pytest.raises(RegistryError) as caught:
        deployed(run, version)
    assert caught.value.what == "version 1 is no longer the challenger"
    assert caught.value.got == "version 2"
    assert caught.value.fix == "another run registered its model after this one: start the run again"


def test_a_model_that_was_compared_with_an_older_champion_is_not_deployed(run: Any) -> None:
    new = registered(run, 1)
    run.champion(0)
    with pytest.raises(RegistryError) as caught:
        deployed(run, new, index=1, against=None)
    assert caught.value.what == "the champion changed after the decision"
    assert (caught.value.expected, caught.value.got) == ("no champion", "version 2")
    assert caught.value.fix == "start the run again, so that the model is compared with the current champion"


@pytest.mark.parametrize("alias", ["champion", "previous"])
def test_an_alias_that_does_not_stay_is_an_error(run: Any, monkeypatch: Any, alias: Any) -> None:
    old = run.champion(0)
    new = registered(run, 1)
    registry = run.services.registry
    set_alias = registry.set_alias

    def deaf(model: str, version: str, name: str) -> None:
        if name != alias:
            set_alias(model, version, name)

    monkeypatch.setattr(registry, "set_alias", deaf)
    with pytest.raises(RegistryError, match=f"alias {alias} points to another version than it was set to") as caught:
        deployed(run, new, index=1, against=old)
    assert caught.value.fix == "check which other process sets aliases in the registry, then run the step again"


def test_a_challenger_that_came_meanwhile_is_kept(run: Any) -> None:
    version = registered(run, 0)
    deployed(run, version)
    registered(run, 1)
    deployed(run, version)
    assert aliases(run) == {"champion": "1", "challenger": "2"}


def test_a_cleared_run_with_other_data_replaces_the_version_that_it_deployed_before(run: Any) -> None:
    old = run.champion(0)
    deployed(run, registered(run, 1), index=1, against=old)
    run.services.tracking.files["models:/m-3"] = run.services.read(run.models[0])
    run.facts[0] = run.facts[0].model_copy(update={"model_uri": "models:/m-3"})
    assert deployed(run, registered(run, 0), against=old) == {"version": "3", "previous_version": old}
    assert aliases(run) == {"champion": "3", "previous": old}
