"""The report as the step record_decision publishes it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from ml_pipelines.contracts import ArtifactRef, StepResult
from ml_pipelines.errors import ServiceUnavailable
from ml_pipelines.pipeline.step_parameters import RecordParameters
from ml_pipelines.ports import TaskRecord
from ml_pipelines.promotion.deployment import TRAINING_TAG
from ml_pipelines.steps.publish_report import REPORT_FILE
from ml_pipelines.steps.training.record_decision import publish

DEPLOYED = {"deploy": {"version": "2", "previous_version": "1"}}


def reported(run: Any, facts: dict[str, Any] | None = None, **references: Any) -> str:
    """Publish a report and return it, read by its reference in the ledger."""
    all_references = {"trainings": run.trainings, **references}
    publish(run.work(RecordParameters(model="churn"), all_references, facts or {}), run.services)
    entry = run.services.ledger.entry("churn", run.identity.run_id)
    assert entry is not None
    ref = ArtifactRef.model_validate(entry.details.report)
    assert ref.kind == "html"
    return run.services.read(ref).decode()


def judged(run: Any, outcome: str = "rejected", **facts: Any) -> str:
    evaluation = run.json(run.evaluate().outputs["evaluation"])
    return reported(run, {"decide": run.decision(outcome, index=1), **facts}, evaluation=evaluation)


def test_publish_report_stores_the_report_and_logs_it_to_the_best_candidate(run: Any) -> None:
    page = judged(run, "promoted", **DEPLOYED)
    assert "Promoted" in page
    assert "version 2" in page
    logged = run.services.tracking.runs
    assert logged[run.facts[1].tracking_run_id].documents == {REPORT_FILE: page}
    assert logged[run.facts[0].tracking_run_id].documents == {}


def test_publish_report_shows_the_outcome_after_the_approval(run: Any) -> None:
    assert "a person approved" in judged(run, "held", **DEPLOYED)


def test_publish_report_compares_features_with_the_champions_training(run: Any) -> None:
    run.champion(tags={TRAINING_TAG: run.trainings[0].model_dump_json()})
    assert "0 of 2 features have drifted since the training of version 1" in judged(run)


def test_publish_report_of_a_retry_compares_with_the_previous_champion(make_run: Any) -> None:
    run = make_run()
    old = run.champion(tags={TRAINING_TAG: run.trainings[0].model_dump_json()})
    run.services.registry.set_alias("churn", old, "previous")
    own = run.services.registry
    from ml_pipelines.ports import TrackedModel

    tracked = TrackedModel(run.facts[1].tracking_run_id, run.facts[1].model_uri)
    mine = own.register("churn", tracked, run.models[1], run.identity, {})
    own.set_alias("churn", mine.version, "champion")
    assert f"since the training of version {old}" in judged(run)


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({TRAINING_TAG: ""}, "version 1 has no training record"),
        ({TRAINING_TAG: "no JSON"}, "version 1 has no training record"),
        (
            {TRAINING_TAG: ArtifactRef(uri="memory://gone", sha256="0" * 64, bytes=1, kind="json").model_dump_json()},
            "the artifact does not exist",
        ),
    ],
    ids=["no tag", "invalid tag", "deleted artifact"],
)
def test_publish_report_gives_the_reason_for_a_missing_training_record(
    run: Any, tags: dict[str, str], reason: str
) -> None:
    run.champion(tags=tags)
    page = judged(run)
    assert "Not measured" in page
    assert reason in page


def test_publish_report_gives_the_reason_for_a_missing_profile(run: Any) -> None:
    run.champion(tags={TRAINING_TAG: run.json({"candidate": "old"}).model_dump_json()})
    assert "the training record of version 1 has no profile" in judged(run)


def test_publish_report_of_a_stopped_run_shows_the_failed_check(run: Any) -> None:
    check = {"check": "labels", "column": None, "severity": "error", "passed": False, "detail": "one class"}
    report = run.json({"verdict": "stopped", "rows": 1, "quarantined": 0, "checks": [check]})
    run.facts.clear()
    page = reported(run, trainings=(), report=report)
    assert "Stopped" in page
    assert "one class" in page


def test_publish_report_shows_the_previous_steps_only(run: Any) -> None:
    for step in ("ingest", "record_decision"):
        result = StepResult(step=step, key="0" * 64, status="cached", reason=f"hit of {step}", seconds=1.5)
        run.services.done.append(TaskRecord(run.identity, result, datetime(2026, 1, 1, tzinfo=UTC)))
    page = judged(run)
    assert "hit of ingest" in page
    assert "hit of record_decision" not in page


def test_publish_report_is_deterministic(run: Any) -> None:
    assert judged(run) == judged(run)


def test_publish_report_raises_a_transient_error_without_the_tracking_server(run: Any) -> None:
    evaluation = run.json(run.evaluate().outputs["evaluation"])
    run.services.tracking.down = True
    with pytest.raises(ServiceUnavailable, match="tracking server"):
        reported(run, {"decide": run.decision("rejected")}, evaluation=evaluation)
