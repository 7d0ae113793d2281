"""The report as the step record_decision makes it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from ml_pipelines.contracts import ArtifactRef, StepResult
from ml_pipelines.errors import ServiceUnavailable
from ml_pipelines.pipeline.parameters import RecordParameters
from ml_pipelines.ports import TaskRecord
from ml_pipelines.promotion.deployment import TRAINING_TAG
from ml_pipelines.steps.publish_report import REPORT_FILE
from ml_pipelines.steps.training.record_decision import publish

DEPLOYED = {"deploy": {"version": "2", "previous_version": "1"}}


def reported(run: Any, facts: dict[str, Any] | None = None, **references: Any) -> str:
    """The report's bytes, from where the ledger says that they are."""
    told = {"trainings": run.trainings, **references}
    publish(run.work(RecordParameters(model="churn"), told, facts or {}), run.services)
    kept = run.services.ledger.entry("churn", run.identity.run_id)
    entry = kept if isinstance(kept, dict) else kept.model_dump(mode="json")
    ref = ArtifactRef.model_validate(entry["details"]["report"])
    assert ref.kind == "html"
    return run.services.read(ref).decode()


def judged(run: Any, outcome: str = "rejected", **facts: Any) -> str:
    evaluation = run.json(run.evaluate().outputs["evaluation"])
    return reported(run, {"decide": run.decision(outcome, index=1), **facts}, evaluation=evaluation)


def test_it_is_kept_and_logged_with_the_best_candidate(run: Any) -> None:
    page = judged(run, "promoted", **DEPLOYED)
    assert "Promoted" in page
    assert "version 2" in page
    logged = run.services.tracking.runs
    assert logged[run.facts[1].tracking_run_id].documents == {REPORT_FILE: page}
    assert logged[run.facts[0].tracking_run_id].documents == {}


def test_the_final_outcome_is_in_it_not_the_one_before_the_approval(run: Any) -> None:
    assert "a person approved" in judged(run, "held", **DEPLOYED)


def test_features_are_compared_with_the_champions_training(run: Any) -> None:
    run.champion(tags={TRAINING_TAG: run.trainings[0].model_dump_json()})
    assert "0 of 2 features have moved since version 1 was trained" in judged(run)


def test_a_second_try_compares_with_the_champion_before_it(make_run: Any) -> None:
    run = make_run()
    old = run.champion(tags={TRAINING_TAG: run.trainings[0].model_dump_json()})
    run.services.registry.set_alias("churn", old, "previous")
    own = run.services.registry
    from ml_pipelines.ports import TrackedModel

    tracked = TrackedModel(run.facts[1].tracking_run_id, run.facts[1].model_uri)
    mine = own.register("churn", tracked, run.models[1], run.identity, {})
    own.set_alias("churn", mine.version, "champion")
    assert f"since version {old} was trained" in judged(run)


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        ({}, "version 1 names no record of its training"),
        ({TRAINING_TAG: "no JSON"}, "version 1 names no record of its training"),
        (
            {TRAINING_TAG: ArtifactRef(uri="memory://gone", sha256="0" * 64, bytes=1, kind="json").model_dump_json()},
            "there are no bytes at this address",
        ),
    ],
    ids=["an earlier version", "a forged tag", "cleaned away"],
)
def test_a_champion_without_its_record_is_told(run: Any, tags: dict[str, str], told: str) -> None:
    run.champion(tags=tags)
    page = judged(run)
    assert "Not measured" in page
    assert told in page


def test_a_record_without_a_profile_is_told(run: Any) -> None:
    run.champion(tags={TRAINING_TAG: run.json({"candidate": "old"}).model_dump_json()})
    assert "the training of version 1 holds no profile of its features" in judged(run)


def test_a_run_that_stopped_has_a_short_report(run: Any) -> None:
    check = {"check": "labels", "column": None, "severity": "error", "passed": False, "detail": "one class"}
    report = run.json({"verdict": "stopped", "rows": 1, "quarantined": 0, "checks": [check]})
    run.facts.clear()
    page = reported(run, trainings=(), report=report)
    assert "Stopped" in page
    assert "one class" in page


def test_the_steps_before_are_in_it_and_this_one_is_not(run: Any) -> None:
    for step in ("ingest", "record_decision"):
        result = StepResult(step=step, key="0" * 64, status="cached", reason=f"hit of {step}", seconds=1.5)
        run.services.done.append(TaskRecord(run.identity, result, datetime(2026, 1, 1, tzinfo=UTC)))
    page = judged(run)
    assert "hit of ingest" in page
    assert "hit of record_decision" not in page


def test_a_retry_gives_the_same_bytes(run: Any) -> None:
    assert judged(run) == judged(run)


def test_a_tracking_server_that_is_down_is_worth_another_try(run: Any) -> None:
    evaluation = run.json(run.evaluate().outputs["evaluation"])
    run.services.tracking.down = True
    with pytest.raises(ServiceUnavailable, match="the tracking server does not answer"):
        reported(run, {"decide": run.decision("rejected")}, evaluation=evaluation)
