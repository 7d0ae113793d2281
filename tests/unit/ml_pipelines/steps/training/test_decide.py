from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ml_pipelines._utils.canonical_json import dump_json
from ml_pipelines.contracts import Decision, Identity
from ml_pipelines.data.check_results import CheckResult, QualityReport
from ml_pipelines.errors import RegistryError, ServiceUnavailable
from ml_pipelines.evaluation.dummy import constant_predictions, fit_dummy
from ml_pipelines.evaluation.scorers import compute_metrics
from ml_pipelines.evaluation.target_schema import TargetSchema
from ml_pipelines.pipeline.facts import DecideFacts
from ml_pipelines.pipeline.step_parameters import DecideParameters
from ml_pipelines.ports import TrackedModel
from ml_pipelines.spec.gate import Gate
from ml_pipelines.spec.metric_table import METRICS
from ml_pipelines.steps.training.decide import decide, resolve
from ml_pipelines.testing import FakeServices

OURS, THEIRS = "a" * 64, "b" * 64
CHAMPION = {"version": "3", "sha256": THEIRS}
BY_HAND = {"models": [], "model_bytes": [10, 20]}

TUESDAY = Identity(pipeline="churn", run_id="tuesday", task_id="t")


def evaluation(
    test: dict[str, float | None],
    *,
    dummy: dict[str, float | None] | None = None,
    champion: dict[str, Any] | None = None,
    metric: str = "roc_auc",
    difference: tuple[float, float] | None = None,
    slices: tuple[Any, ...] = (),
    constant: str | None = None,
) -> dict[str, Any]:
    """As `evaluate` makes it; `difference` is the interval of that to the champion."""
    dummy = {metric: 0.5} if dummy is None else dummy
    value, reference = test[metric], dummy[metric]
    gain = None if value is None or reference is None else dict.fromkeys(("low", "high"), value - reference)
    interval = difference and {"low": difference[0], "high": difference[1], "confidence": 0.95}
    compared = {"metric": metric, "difference": 0.0, "interval": interval, "draws": 200, "rows": 100}
    return {
        "metric": metric,
        "winner": "tree",
        "rows": {"validation": 100, "test": 100},
        "candidates": [
            {"candidate": "linear", "sha256": "c" * 64, "test": {metric: 0.6}, "slices": [], "constant": None},
            {"candidate": "tree", "sha256": OURS, "test": test, "slices": [*slices], "constant": constant},
        ],
        "champion": champion,
        "dummy": {"test": dummy, "comparison": compared | {"interval": gain and {**gain, "confidence": 0.95}}},
        "intervals": {metric: {"low": 0.1, "high": 0.9, "confidence": 0.95}},
        "champion_intervals": {},
        "comparison": compared if difference else None,
    }


def scored(identity: str = THEIRS, slices: tuple[Any, ...] = (), **test: float | None) -> dict[str, Any]:
    return {"identity": identity, "test": test, "slices": [*slices], "error": None}


def decided(
    document: dict[str, Any],
    champion: dict[str, Any] | None = None,
    promote: str = "auto",
    guards: dict[str, float] | None = None,
    checks: tuple[CheckResult, ...] = (),
    records: tuple[dict[str, Any], ...] = (),
    **gate: Any,
) -> Decision:
    """Decide; `records` are the training records of the champion and of both candidates."""
    parameters = DecideParameters(model="churn", gate=Gate(**{"metric": document["metric"], **gate}), promote=promote)
    report = QualityReport(verdict="passed", rows=9, quarantined=0, checks=checks).model_dump(mode="json")
    arguments = {"evaluation": document, "report": report, "champion": champion, "guards": guards}
    before, *own = records or (None, {}, {})
    trainings = [{"rows": 9, **record, "candidate": name} for name, record in zip(("linear", "tree"), own, strict=True)]
    expected = {"champion_training": before, "trainings": trainings}
    output = decide(parameters=parameters, seed=1, **{**BY_HAND, **arguments, **expected})
    decision = Decision.model_validate(output.outputs["decision"])
    assert DecideFacts(**output.values).decision == decision
    assert (decision.candidate, decision.candidate_index) == ("tree", 1)
    assert decision.champion_version == (champion["version"] if champion else None)
    return decision


def test_a_decision_holds_all_its_evidence() -> None:
    groups = ({"column": "plan", "level": None, "rows": 60, "metrics": {"roc_auc": 0.7}},)
    theirs = ({"column": "plan", "level": None, "rows": 60, "metrics": {"roc_auc": 0.6}},)
    document = evaluation(
        {"roc_auc": 0.9}, champion=scored(slices=theirs, roc_auc=0.8), difference=(0.01, 0.2), slices=groups
    )
    decision = decided(document, CHAMPION, guards={"seconds_per_row": 0.001})
    assert (decision.outcome, decision.fitted_rows) == ("promoted", 9)
    assert (decision.metrics, decision.champion_metrics, decision.dummy_metrics) == (
        {"roc_auc": 0.9},
        {"roc_auc": 0.8},
        {"roc_auc": 0.5},
    )
    assert decision.champion_version == "3"
    assert decision.guards == {"model_bytes": 20.0, "seconds_per_row": 0.001}
    assert decision.intervals["roc_auc"].low == 0.1
    assert decision.comparison is not None
    assert decision.comparison.interval is not None
    assert (decision.comparison.interval.low, decision.comparison.rows) == (0.01, 100)
    (group,) = decision.slices
    assert (group.column, group.value, group.rows) == ("plan", "nothing", 60)
    assert (group.metrics, group.champion_metrics) == ({"roc_auc": 0.7}, {"roc_auc": 0.6})


def test_failed_checks_are_findings_of_the_decision_and_hold_a_first_model() -> None:
    def check(severity: Any, *, passed: bool = False) -> CheckResult:
        return CheckResult(check=severity, column="x", severity=severity, passed=passed, detail="so", remedy="fix it")

    checks = (check("warn"), check("quarantine"), check("hold"), check("error", passed=True))
    decision = decided(evaluation({"roc_auc": 0.9}), checks=checks)
    assert [(finding.severity, finding.remedy) for finding in decision.findings] == [
        ("hold", "fix it"),
        ("warn", "fix it"),
    ]
    assert decision.outcome == "held"


def test_a_rejected_run_keeps_the_champions_score_too() -> None:
    document = evaluation({"roc_auc": 0.6}, champion=scored(roc_auc=0.8), difference=(-0.3, -0.1))
    decision = decided(document, CHAMPION)
    assert (decision.outcome, decision.champion_metrics) == ("rejected", {"roc_auc": 0.8})


def test_a_champion_that_could_not_be_compared_holds_the_model() -> None:
    lost = {"identity": THEIRS, "test": {}, "slices": [], "error": "the file is gone"}
    decision = decided(evaluation({"roc_auc": 0.9}, champion=lost), CHAMPION)
    assert (decision.outcome, decision.champion_error) == ("held", "the file is gone")
    assert decision.rules[-1].detail == "champion version 3 could not be compared: the file is gone"


def test_a_champion_of_unknown_origin_is_known_by_its_version() -> None:
    lost = {"identity": "version 3", "test": {}, "slices": [], "error": "not registered by a pipeline"}
    decision = decided(evaluation({"roc_auc": 0.9}, champion=lost), {"version": "3", "sha256": None})
    assert decision.outcome == "held"


def test_the_champions_own_model_again_is_no_change() -> None:
    document = evaluation({"roc_auc": 0.4}, champion=scored(OURS, roc_auc=0.4), difference=(0, 0))
    decision = decided(document, {"version": "3", "sha256": OURS}, thresholds={"roc_auc": 0.8})
    assert decision.outcome == "no_change"
    assert decision.champion_metrics == decision.metrics


@pytest.mark.parametrize(
    ("then", "now"),
    [
        (None, CHAMPION),
        (scored(roc_auc=0.7), None),
        (scored(roc_auc=0.7), {"version": "4", "sha256": "d" * 64}),
    ],
)
def test_a_champion_that_changed_meanwhile_is_an_error(then: Any, now: Any) -> None:
    with pytest.raises(RegistryError) as caught:
        decided(evaluation({"roc_auc": 0.9}, champion=then), now)
    assert caught.value.what == "the champion changed during the run"


def test_a_model_that_is_never_positive_is_rejected_although_its_accuracy_passes() -> None:
    """The seed of many a bad deployment: 85.9 % of the rows are negative, so always saying no is 85.9 % accurate."""
    target = TargetSchema("classification", (0, 1), 1)
    truth = np.array([1] * 141 + [0] * 859)
    never = compute_metrics(target, truth, np.zeros(1000))
    assert never["accuracy"] == 0.859
    for metric in ("accuracy", "roc_auc", "balanced_accuracy"):
        predictions = constant_predictions(fit_dummy(target, truth, METRICS[metric]), 1000)
        dummy = compute_metrics(target, truth, predictions)
        document = evaluation(never, dummy=dummy, metric=metric, constant="predictions")
        for lift in (0.0, 0.01):
            decision = decided(document, thresholds={"accuracy": 0.85}, lift_over_dummy=lift)
            assert decision.rules[0].passed
            assert decision.outcome == "rejected"
            failed = {rule.rule: rule.value for rule in decision.rules if not rule.passed}
            assert failed == {"not constant": 1, "beats dummy": 0}


@pytest.mark.parametrize(
    ("test", "constant", "checks"),
    [
        ({"roc_auc": 0.9, "recall": 0.0, "precision": 0.0}, "labels", ["recall"]),
        ({"roc_auc": 0.9, "recall": 0.0, "precision": 0.0}, None, ["recall"]),
        ({"roc_auc": 0.9, "recall": 1.0, "precision": 0.1}, "labels", ["labels"]),
        ({"roc_auc": 0.9, "recall": 0.1, "precision": 0.1}, None, []),
        ({"roc_auc": 0.9}, None, []),
    ],
)
def test_labels_that_are_useless_at_the_threshold_are_a_finding(test: Any, constant: Any, checks: Any) -> None:
    decision = decided(evaluation(test, constant=constant))
    assert decision.outcome == "promoted"  # a ranking needs no threshold
    assert [(finding.check, finding.severity) for finding in decision.findings] == [(name, "warn") for name in checks]
    assert all("0.5" in finding.detail and finding.remedy for finding in decision.findings)


def test_the_champion_is_looked_up_and_part_of_the_key() -> None:
    services = FakeServices()
    parameters = DecideParameters(model="churn", gate=Gate(metric="roc_auc"))
    ref = services.put(b"model", kind="model")
    empty = resolve(parameters, {"models": (ref, ref)}, services, TUESDAY)
    assert empty.key_facts == {"champion": None}
    assert empty.prepare is not None
    assert empty.prepare("") == {"champion": None, "guards": {}, "model_bytes": [5, 5]}
    identity = Identity(pipeline="churn", run_id="r", task_id="t")
    services.registry.register("churn", TrackedModel("r", "models:/m-1"), ref, identity, {})
    services.registry.set_alias("churn", "1", "champion")
    actual = resolve(parameters, {"models": (ref, ref)}, services, TUESDAY)
    assert actual.key_facts == {"champion": {"version": "1", "sha256": ref.sha256}}
    assert actual.prepare is not None
    assert actual.prepare("")["champion"] == actual.key_facts["champion"]


@pytest.mark.parametrize("limit", [10.0, 1e-9])
def test_a_time_is_measured_only_where_it_is_limited_and_no_part_of_the_key(run: Any, limit: Any) -> None:
    evaluation = run.services.put(dump_json(run.evaluate().outputs["evaluation"]), kind="json")
    inputs = {"models": run.models, "trainings": run.trainings, "evaluation": evaluation}
    gate = Gate(metric="roc_auc", guards={"max_seconds_per_row": limit})
    actual = resolve(DecideParameters(model="churn", gate=gate), inputs, run.services, TUESDAY)
    measured = actual.values["seconds_per_row"]
    assert isinstance(measured, float)
    assert 1e-9 < measured < 10
    # A time is another one each time; the limit that was kept is not.
    kept = limit if limit == 10.0 else measured
    assert actual.key_facts == {"champion": None, "guards": {"seconds_per_row": kept}}
    assert actual.prepare is not None
    assert actual.prepare("")["guards"] == {"seconds_per_row": kept}


def test_a_registry_that_is_down_is_worth_another_try() -> None:
    services = FakeServices()
    services.registry.down = True
    with pytest.raises(ServiceUnavailable, match="the model registry does not answer"):
        resolve(DecideParameters(model="churn", gate=Gate(metric="roc_auc")), {"models": ()}, services, TUESDAY)


def test_changes_since_the_champion_are_findings_and_unknown_rows_hold_the_model(run: Any) -> None:
    now = run.records[0]
    before = {**now, "split": {**now["split"], "seed": 7}}
    champion = {**scored(roc_auc=0.5), "rows": None, "unknown_rows": "no row is new"}
    decision = decided(
        evaluation({"roc_auc": 0.9}, dummy={"roc_auc": 0.5}, champion=champion),
        CHAMPION,
        records=(before, now, now),
        broken_champion="promote",
    )
    assert [finding.check for finding in decision.findings] == ["champion_rows", "split_rule"]
    assert decision.outcome == "held"


def test_the_training_of_the_champion_is_read_and_part_of_the_key(run: Any) -> None:
    parameters = DecideParameters(model="churn", gate=Gate(metric="roc_auc"))
    run.champion(1)
    resolution = resolve(parameters, {"models": run.models}, run.services, run.identity)
    assert resolution.prepare is not None
    assert resolution.prepare("")["champion_training"] == run.records[1]
    assert "champion_training" in resolution.key_facts


def test_a_candidate_that_failed_is_a_finding_with_a_remedy() -> None:
    failure = {"candidate": "forest", "task": "train_model", "error": "it can't be fitted", "fix": "add rows"}
    decision = decided(evaluation({"roc_auc": 0.9}) | {"failures": [failure]})
    assert decision.outcome == "promoted"
    assert [one.model_dump() for one in decision.failures] == [failure]
    (finding,) = decision.findings
    assert (finding.check, finding.severity) == ("candidate_failed", "warn")
    assert finding.detail == "the candidate forest failed in its training: it can't be fitted"
    assert finding.remedy == "Add rows. The next run tries the candidate again."


def test_a_metric_of_the_report_decides_nothing_and_its_error_is_a_finding() -> None:
    document = evaluation({"roc_auc": 0.9, "brier": 0.2}) | {"report_errors": {"shop:gain higher labels": "no <gain>"}}
    decision = decided(document, report=("brier", "shop:gain higher labels"))
    assert (decision.outcome, decision.report) == ("promoted", ("brier",))
    assert decision.rules == decided(document).rules
    (finding,) = decision.findings
    assert (finding.check, finding.severity) == ("report_metric", "warn")
    assert finding.detail == "the metric gain of gate.report could not be computed: no <gain>"
    assert finding.remedy
