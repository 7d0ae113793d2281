from __future__ import annotations

from typing import Any

import pytest
from tests.step_values import step_values

from ml_pipelines.contracts import Decision, Identity
from ml_pipelines.data.check_results import CheckResult
from ml_pipelines.errors import RequestError, ServiceUnavailable
from ml_pipelines.pipeline.step_parameters import RecordParameters
from ml_pipelines.ports import TrackedModel
from ml_pipelines.ports.ledger_entry import RunDetails
from ml_pipelines.promotion.history import find_external_change, latest_transition
from ml_pipelines.steps.training.record_decision import publish

DEPLOYED = {"deploy": {"version": "2", "previous_version": "1"}}


def check(name: str, *, passed: bool, severity: str = "error", column: str | None = None) -> dict[str, Any]:
    result = CheckResult(check=name, column=column, severity=severity, passed=passed, detail=f"about {name}")
    return result.model_dump(mode="json")


def report(verdict: str = "passed") -> dict[str, Any]:
    checks = [
        check("rows", passed=True),
        check("missing", passed=verdict == "passed", column="amount"),
        check("leakage", passed=False, severity="warn"),
        check("labels", passed=verdict == "passed"),
    ]
    return {"verdict": verdict, "rows": 100, "quarantined": 4, "checks": checks}


def recorded(run: Any, facts: dict[str, Any], **references: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    all_references = {"report": run.json(report()), **references}
    values = publish(run.work(RecordParameters(model="churn"), all_references, facts), run.services)
    return values, run.services.ledger.entry("churn", "monday").model_dump(mode="json")


def test_a_promoted_run_is_recorded_whole(run: Any) -> None:
    output = run.evaluate()
    evaluation = output.outputs["evaluation"]
    champion = {"version": "1", "sha256": "a" * 64, "candidate_index": None, "error": None}
    counted = {"rows_in": 3, "kept": 2, "quarantined": 1, "quarantined_by_reason": {"amount is infinite": 1}}
    facts = {
        **DEPLOYED,
        "preprocess": counted,
        "split": {"rows": {"train": 1}},
        "evaluate": step_values("evaluate", champion=champion),
        "decide": run.decision(),
    }
    values, entry = recorded(run, facts, evaluation=run.json(evaluation))
    assert values == {
        "outcome": "promoted",
        "reason": "so",
        "candidate": "linear",
        "version": "2",
        "previous_version": "1",
    }
    assert entry["decision"]["outcome"] == "promoted"
    assert set(entry["details"]) == {
        "version",
        "previous_version",
        "sha256",
        "evaluation",
        "pin",
        "quality",
        "rows",
        "parts",
        "candidates",
        "champion",
        "report",
    }
    assert entry["details"]["pin"]["digest"] == "md5:1f"
    assert entry["details"]["rows"] == counted
    assert entry["details"]["parts"] == {"train": 1}
    assert entry["details"]["quality"] == {
        "verdict": "passed",
        "rows": 100,
        "quarantined": 4,
        "failed": [check("leakage", passed=False, severity="warn")],
    }
    assert [c["candidate"] for c in entry["details"]["candidates"]] == ["linear", "tree"]
    assert entry["details"]["candidates"][0]["test"] == evaluation["candidates"][0]["test"]
    assert entry["details"]["champion"] == {"version": "1", "sha256": "a" * 64, "error": None}


def test_a_stopped_run_names_the_checks_that_stopped_it(run: Any) -> None:
    values, entry = recorded(run, {}, report=run.json(report("stopped")))
    assert values == {
        "outcome": "stopped",
        "reason": "the quality checks failed: amount: missing, labels",
        "candidate": None,
        "version": None,
        "previous_version": None,
    }
    assert entry["decision"]["candidate"] is None
    findings = [(finding["severity"], finding["check"], finding["detail"]) for finding in entry["decision"]["findings"]]
    assert findings == [
        ("error", "missing", "about missing"),
        ("error", "labels", "about labels"),
        ("warn", "leakage", "about leakage"),
    ]
    assert entry["details"]["quality"]["verdict"] == "stopped"
    assert "candidates" not in entry["details"]


@pytest.mark.parametrize(
    ("facts", "outcome", "reason", "version"),
    [
        (DEPLOYED, "promoted", "a person approved. so", "2"),
        ({}, "held", "no person approved. so", None),
    ],
)
def test_a_held_run_is_what_the_person_said(run: Any, facts: Any, outcome: Any, reason: Any, version: Any) -> None:
    values, entry = recorded(run, {"decide": run.decision("held"), **facts})
    assert (values["outcome"], values["reason"], values["version"]) == (outcome, reason, version)
    assert entry["decision"]["outcome"] == outcome


def test_who_approved_is_written_down(run: Any) -> None:
    facts = {**DEPLOYED, "approval": {"approver": "ada"}}
    _, entry = recorded(run, {"decide": run.decision("held"), **facts})
    assert entry["details"]["approver"] == "ada"


def test_a_run_on_nothing_new_is_recorded_with_the_reason(run: Any) -> None:
    compared = {
        "verdict": "no_change",
        "fingerprint": {"data": "a" * 64},
        "changed": [],
        "champion_version": "3",
        "reason": "nothing has changed",
    }
    values = publish(run.work(RecordParameters(model="churn"), {}, {"compare_with_champion": compared}), run.services)
    entry = run.services.ledger.entry("churn", "monday").model_dump(mode="json")
    assert (values["outcome"], values["reason"]) == ("no_change", "nothing has changed")
    assert entry["decision"]["champion_version"] == "3"
    assert (entry["details"]["fingerprint"], entry["details"]["changed"]) == ({"data": "a" * 64}, [])


@pytest.mark.parametrize("outcome", ["rejected", "no_change"])
def test_a_run_that_changes_nothing_is_recorded_as_it_was_decided(run: Any, outcome: Any) -> None:
    values, entry = recorded(run, {"decide": run.decision(outcome)})
    assert (values["outcome"], values["reason"], values["version"]) == (outcome, "so", None)
    assert entry["decision"]["outcome"] == outcome


def test_a_promotion_that_was_not_carried_out_is_not_recorded(run: Any) -> None:
    with pytest.raises(RequestError) as caught:
        recorded(run, {"decide": run.decision()})
    assert caught.value.fix == "run the step deploy first"
    assert run.services.ledger.written == []


@pytest.mark.parametrize(("with_report", "got"), [(True, "a quality report that passed"), (False, "neither")])
def test_a_run_without_an_end_is_not_recorded(run: Any, with_report: Any, got: Any) -> None:
    references = {"report": run.json(report())} if with_report else {}
    with pytest.raises(RequestError) as caught:
        publish(run.work(RecordParameters(model="churn"), references, {}), run.services)
    assert caught.value.got == got
    assert caught.value.fix == "run the steps before this one"


def test_a_retry_leaves_one_entry(run: Any) -> None:
    decision = run.decision("rejected")
    first, second = (recorded(run, {"decide": decision}) for _ in range(2))
    assert first == second
    assert len(run.services.ledger.written) == 1


def test_runs_that_were_left_open_for_an_hour_are_closed(run: Any) -> None:
    run.services.tracking.open_seconds = {"churn": [10.0, 4000.0], "fraud": [4000.0]}
    recorded(run, {"decide": run.decision("rejected")})
    assert run.services.tracking.open_seconds == {"churn": [10.0], "fraud": [4000.0]}


def test_a_ledger_that_is_down_is_worth_another_try(run: Any) -> None:
    run.services.ledger.down = True
    with pytest.raises(ServiceUnavailable, match="the ledger does not answer"):
        recorded(run, {"decide": run.decision("rejected")})


def test_a_promotion_that_was_replaced_before_its_entry_is_no_transition(run: Any) -> None:
    services = run.services
    old, new, newer = (registered(run, number) for number in ("1", "2", "3"))
    services.registry.set_alias("churn", new.version, "champion")
    details = RunDetails(version=newer.version, sha256="c" * 64)
    services.ledger.record(
        Identity(pipeline="churn", run_id="tuesday", task_id="record_decision"),
        Decision(outcome="promoted", model="churn", reason="better"),
        details,
    )
    services.registry.set_alias("churn", newer.version, "champion")
    facts = {"deploy": {"version": new.version, "previous_version": old.version}, "decide": run.decision()}
    _, entry = recorded(run, facts, evaluation=run.json(run.evaluate().outputs["evaluation"]))
    assert entry["details"]["replaced_by"] == newer.version
    assert latest_transition(services.ledger, "churn").run_id == "tuesday"
    assert find_external_change(services.registry, services.ledger, "churn") is None


def test_a_retry_after_a_later_deployment_leaves_the_entry_as_it_was(run: Any) -> None:
    facts = {**DEPLOYED, "decide": run.decision()}
    evaluation = run.json(run.evaluate().outputs["evaluation"])
    _, first = recorded(run, facts, evaluation=evaluation)
    newer = [registered(run, number) for number in ("1", "2", "3")][-1]
    run.services.registry.set_alias("churn", newer.version, "champion")
    run.services.ledger.record(
        Identity(pipeline="churn", run_id="tuesday", task_id="record_decision"),
        Decision(outcome="promoted", model="churn", reason="better"),
        RunDetails(version=newer.version),
    )
    _, again = recorded(run, facts, evaluation=evaluation)
    assert again == first


def registered(run: Any, number: str) -> Any:
    tracked = TrackedModel(run_id=f"r{number}", model_uri=f"models:/m-{number}")
    identity = Identity(pipeline="churn", run_id=f"run {number}", task_id="register")
    return run.services.registry.register("churn", tracked, run.models[0], identity, {})
