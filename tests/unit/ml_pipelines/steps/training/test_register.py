from __future__ import annotations

import json
from typing import Any

import pytest

from ml_pipelines.contracts import ArtifactRef, CandidateFailure, Decision
from ml_pipelines.errors import ArtifactCorrupt, RequestError, ServiceUnavailable
from ml_pipelines.pipeline.facts import CompareFacts, DecideFacts, FactsForRegistration, RegisterFacts
from ml_pipelines.pipeline.step_parameters import RegisterParameters
from ml_pipelines.ports.ledger_entry import RunDetails
from ml_pipelines.steps.training.register import publish

PARAMETERS = RegisterParameters(model="churn")


def registered(run: Any, decision: DecideFacts, **facts: Any) -> dict[str, Any]:
    references = {"models": run.models, "trainings": run.trainings}
    work = run.work(PARAMETERS, references, {"decide": decision, **facts}, reads=FactsForRegistration)
    return publish(work, run.services)


def test_the_winner_becomes_the_challenger(run: Any) -> None:
    values = registered(run, run.decision(index=1, metric="roc_auc", metrics={"roc_auc": 0.75, "brier": None}))
    version = run.services.registry.by_alias("churn", "challenger")
    record = values.pop("registered")
    assert record["files"] == {"model.skops": run.models[1].sha256}
    assert record["training"] == run.trainings[1].model_dump(mode="json")
    assert values == {"version": "1", "model_uri": run.facts[1].model_uri, "url": None}
    assert version.version == "1"
    assert version.artifact == run.models[1]
    tags = dict(version.tags)
    assert ArtifactRef.model_validate_json(tags.pop("ml_pipelines.artifact")) == run.models[1]
    assert ArtifactRef.model_validate_json(tags.pop("ml_pipelines.training")) == run.trainings[1]
    tags.pop("ml_pipelines.key", None)
    assert (tags.pop("ml_pipelines.pipeline"), tags.pop("ml_pipelines.run_id")) == ("churn", "monday")
    assert tags == {
        "ml_pipelines.candidate": "tree",
        "ml_pipelines.data_digest": "md5:1f",
        "ml_pipelines.data_revision": "abc123",
        "ml_pipelines.metric": "roc_auc",
        "ml_pipelines.test_roc_auc": "0.75",
    }


def test_register_tags_the_version_with_the_cache_key(run: Any) -> None:
    registered(run, run.decision(), train=[facts.model_copy(update={"key": "f" * 64}) for facts in run.facts])
    version = run.services.registry.by_alias("churn", "challenger")
    assert version.tags["ml_pipelines.key"] == "f" * 64


def test_the_fingerprint_names_the_candidates_that_failed(run: Any) -> None:
    failures = [CandidateFailure(candidate=name, task="train_model", error="so") for name in ("forest", "net")]
    compared = CompareFacts(
        verdict="go_on",
        fingerprint={"data": "d"},
        changed=None,
        champion_version=None,
        reason="there is no champion yet",
    )
    registered(run, run.decision(failures=failures), compare_with_champion=compared)
    version = run.services.registry.by_alias("churn", "challenger")
    fingerprint = {"candidate_failed": "forest, net", "data": "d"}
    assert json.loads(version.tags["ml_pipelines.fingerprint"]) == fingerprint


def test_a_retry_finds_the_same_version(run: Any) -> None:
    first, second = (registered(run, run.decision()) for _ in range(2))
    assert first == second
    assert len(run.services.registry.versions["churn"]) == 1


def test_a_version_keeps_the_files_of_its_first_registration(run: Any) -> None:
    facts = RegisterFacts(**registered(run, run.decision()))
    decision = Decision(outcome="promoted", model="churn", reason="so")
    run.services.ledger.record(run.identity, decision, RunDetails(registered=facts.registered))
    assert registered(run, run.decision()) == facts.as_values()
    run.services.registry.extra_files = {"requirements.txt": b"evil"}
    with pytest.raises(ArtifactCorrupt, match="the registry serves other files than were registered") as caught:
        registered(run, run.decision())
    assert caught.value.got.startswith("requirements.txt with sha256 ")


def test_a_model_file_that_was_not_evaluated_is_not_registered(run: Any) -> None:
    run.services.tracking.files[run.facts[0].model_uri] = b"forged"
    with pytest.raises(ArtifactCorrupt, match="the registry serves other files than were registered"):
        registered(run, run.decision())
    assert run.services.registry.aliases == {}


def test_a_held_model_may_be_registered(run: Any) -> None:
    assert registered(run, run.decision("held"))["version"] == "1"


@pytest.mark.parametrize("outcome", ["rejected", "no_change", "stopped"])
def test_nothing_else_is_registered(run: Any, outcome: Any) -> None:
    with pytest.raises(RequestError) as caught:
        registered(run, run.decision(outcome))
    assert caught.value.got == f"{outcome}: so"
    assert run.services.registry.versions == {}


def test_a_registry_that_is_down_is_worth_another_try(run: Any) -> None:
    run.services.registry.down = True
    with pytest.raises(ServiceUnavailable, match="the model registry does not answer"):
        registered(run, run.decision())
