from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.benchmarks.decision import rates

from ml_pipelines.contracts import Comparison, Decision, Finding, Interval, SliceMetrics
from ml_pipelines.promotion.gate import RULES, apply_gate, metric_gain
from ml_pipelines.spec.gate import Gate
from ml_pipelines.spec.metric_table import get_metric

numbers = st.floats(0, 1)


def evidence(metrics: dict[str, float | None], metric: str = "roc_auc", **fields: Any) -> Decision:
    """The evidence of a candidate that is compared with a dummy baseline by an interval of no width."""
    dummy = 0.5 if get_metric(metric).greater_is_better else 5.0
    gain = metric_gain(metric, metrics.get(metric), dummy)
    evidence_fields = {"metric": metric, "metrics": metrics, "dummy_metrics": {metric: dummy}, **fields}
    if gain is not None:
        evidence_fields |= {"dummy_comparison": comparison(gain, gain, metric=metric, reference=dummy)}
    return Decision(
        outcome="held", model="churn", candidate="tree", reason="not judged yet", **(evidence_fields | fields)
    )


def comparison(
    low: float, high: float, *, metric: str = "roc_auc", difference: float | None = None, reference: float = 0.5
) -> Comparison:
    """A comparison whose reference is the same in each draw."""
    bounds, shares = ({"low": low / by, "high": high / by, "confidence": 0.95} for by in (1.0, reference))
    return Comparison(
        metric=metric,
        difference=(low + high) / 2 if difference is None else difference,
        interval=Interval(**bounds),
        reference=reference,
        relative=Interval(**shares),
        draws=2000,
        rows=1000,
    )


def against(low: float, high: float, **fields: Any) -> dict[str, Any]:
    """A champion, version 3, and the interval of the difference to it."""
    return {"champion_version": "3", "comparison": comparison(low, high, **fields)}


def judged(decision: Decision, promote: Any = "auto", *, same: bool = False, **gate: Any) -> Decision:
    return apply_gate(decision, Gate(**{"metric": decision.metric, **gate}), promote=promote, same_as_champion=same)


def test_a_first_model_needs_thresholds_and_dummy_only() -> None:
    decision = judged(evidence({"roc_auc": 0.9, "recall": 0.7}), thresholds={"roc_auc": 0.8, "recall": 0.7})
    assert (decision.outcome, decision.reason) == ("promoted", "all 4 rules passed")
    assert [(rule.rule, rule.detail) for rule in decision.rules] == [
        ("threshold roc_auc", "roc_auc is 0.9 and must be at least 0.8"),
        ("threshold recall", "recall is 0.7 and must be at least 0.7"),
        (
            "beats dummy",
            "roc_auc is 0.4 better than that of the dummy baseline (95 % interval +0.4 to +0.4), "
            "and the whole interval must be above 0.01",
        ),
        ("first model", "there is no champion to compare with"),
    ]


def test_below_a_threshold_is_rejected_and_the_first_failed_rule_is_the_reason() -> None:
    decision = judged(evidence({"roc_auc": 0.9, "recall": 0.2, "f1": 0.1}), thresholds={"recall": 0.5, "f1": 0.5})
    assert decision.outcome == "rejected"
    assert decision.reason == (
        "threshold recall: recall is 0.2 and must be at least 0.5 (and 1 more of 4 rules failed)"
    )
    assert [rule.passed for rule in decision.rules] == [False, False, True, True]


def test_a_threshold_is_a_maximum_where_less_is_better() -> None:
    decision = evidence({"rmse": 2.0}, "rmse")
    assert judged(decision, thresholds={"rmse": 2.0}).outcome == "promoted"
    assert judged(decision, thresholds={"rmse": 1.5}).reason == "threshold rmse: rmse is 2 and must be at most 1.5"


def test_a_metric_that_could_not_be_measured_fails_its_rules() -> None:
    decision = judged(evidence({"roc_auc": None, "f1": 0.9}, champion_version="3"), thresholds={"brier": 0.2})
    assert decision.outcome == "rejected"
    assert [(rule.passed, rule.value, rule.detail) for rule in decision.rules] == [
        (False, None, "brier could not be measured on the test rows"),
        (False, None, "roc_auc could not be measured on the test rows"),
        (False, None, "champion version 3 could not be compared: roc_auc could not be measured on the test rows"),
    ]


# --- findings


def findings(*severities: Any) -> tuple[Finding, ...]:
    return tuple(
        Finding(check="leakage", column=f"c{index}", severity=severity, detail=f"c{index} predicts label")
        for index, severity in enumerate(severities)
    )


@pytest.mark.parametrize("champion", [{}, against(0.01, 0.05)], ids=["first model", "better than the champion"])
@pytest.mark.parametrize("promote", ["auto", "hold"])
def test_a_finding_of_severity_hold_holds_the_model(champion: Any, promote: Any) -> None:
    decision = judged(evidence({"roc_auc": 0.9}, findings=findings("hold", "warn"), **champion), promote)
    assert decision.outcome == "held"
    (rule,) = [rule for rule in decision.rules if not rule.passed]
    assert (rule.rule, rule.value, rule.limit) == ("findings", 1, 0)
    assert decision.reason.startswith("findings: c0 predicts label")


def test_warnings_hold_nothing() -> None:
    decision = judged(evidence({"roc_auc": 0.9}, findings=findings("warn")))
    assert decision.outcome == "promoted"
    assert decision == judged(evidence({"roc_auc": 0.9}, findings=())).model_copy(update={"findings": findings("warn")})


def test_findings_reject_a_model_that_may_not_be_promoted_or_fails_a_limit() -> None:
    decision = evidence({"roc_auc": 0.9}, findings=findings("hold", "hold"))
    assert judged(decision, "never").outcome == "rejected"
    assert judged(decision, thresholds={"roc_auc": 0.95}).reason.startswith("threshold roc_auc")
    assert "1 more finding" in judged(decision).reason


@pytest.mark.parametrize("when", ["on_hold", "always", "never"])
def test_the_approval_setting_does_not_change_the_outcome_of_a_finding(when: Any) -> None:
    decision = evidence({"roc_auc": 0.9}, findings=findings("hold"))
    assert judged(decision, approval={"when": when}).outcome == "held"


# --- against the champion


@pytest.mark.parametrize(
    ("low", "high", "gate", "outcome"),
    [
        (0.01, 0.05, {}, "promoted"),
        (0.0, 0.05, {}, "held"),  # equal models have an interval of nothing
        (-0.01, 0.05, {}, "held"),
        (-0.05, 0.0, {}, "held"),
        (-0.05, -0.001, {}, "rejected"),
        (0.01, 0.05, {"improvement": 0.02}, "held"),
        (0.021, 0.05, {"improvement": 0.02}, "promoted"),
        (-0.01, 0.05, {"improvement": -0.02}, "promoted"),
        (-0.03, -0.001, {"improvement": -0.02}, "held"),
        (-0.03, -0.021, {"improvement": -0.02}, "rejected"),
        (-0.05, 0.01, {"non_inferiority": 0.05}, "held"),
        (-0.051, 0.01, {"non_inferiority": 0.05}, "rejected"),
        (-0.04, -0.001, {"non_inferiority": 0.05}, "rejected"),
    ],
)
def test_the_interval_of_the_difference_decides(low: Any, high: Any, gate: Any, outcome: Any) -> None:
    decision = judged(evidence({"roc_auc": 0.8}, **against(low, high)), **gate)
    assert decision.outcome == outcome
    assert [rule.rule for rule in decision.rules[1:]] == ["not worse than champion", "beats champion"]


def test_what_is_held_or_rejected_says_why() -> None:
    held = judged(evidence({"roc_auc": 0.8}, **against(-0.01, 0.05)))
    assert held.reason == (
        "beats champion: roc_auc is 0.02 better than that of champion version 3 "
        "(95 % interval -0.01 to +0.05), and the whole interval must be above 0"
    )
    margin = judged(evidence({"roc_auc": 0.8}, **against(-0.06, 0.05)), non_inferiority=0.05, improvement=0.01)
    assert margin.reason == (
        "not worse than champion: roc_auc is 0.005 worse than that of champion version 3 "
        "(95 % interval -0.06 to +0.05), and none of the interval may be below -0.05"
    )
    assert margin.rules[-1].detail.endswith("and the whole interval must be above 0.01")
    worse = judged(evidence({"roc_auc": 0.8}, **against(-0.06, -0.02)), non_inferiority=0.1)
    assert worse.reason == (
        "not worse than champion: roc_auc is 0.04 worse than that of champion version 3 "
        "(95 % interval -0.06 to -0.02), and some of the interval must reach 0"
    )
    assert (worse.rules[1].value, worse.rules[1].limit) == (-0.02, 0.0)


@pytest.mark.parametrize(
    ("low", "lift", "outcome"),
    [
        (0.011, {}, "promoted"),
        (0.01, {}, "rejected"),  # all of the interval must be above the lift
        (-0.02, {}, "rejected"),
        (0.0, {"lift_over_dummy": 0.0}, "rejected"),
        (1e-6, {"lift_over_dummy": 0.0}, "promoted"),
        (0.011, {"lift_over_dummy": "2.1%"}, "promoted"),
        (0.011, {"lift_over_dummy": "2.3%"}, "rejected"),
    ],
)
def test_the_bound_of_the_difference_to_the_dummy_decides(low: Any, lift: Any, outcome: Any) -> None:
    decision = judged(evidence({"roc_auc": 0.7}, dummy_comparison=comparison(low, 0.4)), **lift)
    assert decision.outcome == outcome
    assert decision.rules[0].rule == "beats dummy"


def test_the_lift_of_an_error_is_a_share_by_default() -> None:
    """0.01 is much for an error of 0.05, and nothing for one of 5000."""
    for scale in (0.01, 1.0, 1e6):
        for gain, outcome in ((0.009, "rejected"), (0.011, "promoted")):
            compared = comparison(gain * scale, 2 * scale, metric="rmse", reference=scale)
            decision = judged(evidence({"rmse": 1.0}, "rmse", dummy_comparison=compared))
            assert decision.outcome == outcome
            assert decision.rules[0].limit == 0.01
    assert decision.rules[0].detail == (
        "rmse is 1.006e+06 (100.6 %) better than that of the dummy baseline (95 % interval +1.1 % to +200 %), "
        "and the whole interval must be above 1 % (1e+04)"
    )


@pytest.mark.parametrize(
    ("low", "high", "gate", "outcome"),
    [
        (0.06, 0.2, {"improvement": "10%"}, "promoted"),
        (0.04, 0.2, {"improvement": "10%"}, "held"),
        (-0.04, 0.2, {"improvement": "-10%"}, "promoted"),
        (-0.06, 0.2, {"improvement": "-10%"}, "held"),
        (-0.2, -0.06, {"improvement": "-10%"}, "rejected"),
        (-0.04, 0.2, {"non_inferiority": "10%"}, "held"),
        (-0.06, 0.2, {"non_inferiority": "10%"}, "rejected"),
        (0.06, 0.2, {"improvement": "10%", "non_inferiority": 0.01}, "promoted"),
    ],
)
def test_limits_against_the_champion_may_be_shares(low: Any, high: Any, gate: Any, outcome: Any) -> None:
    decision = judged(evidence({"roc_auc": 0.8}, **against(low, high, reference=0.5)), **gate)
    assert decision.outcome == outcome


def test_a_share_of_a_reference_of_zero_is_zero() -> None:
    compared = comparison(0.1, 0.2).model_copy(update={"reference": 0.0, "relative": None})
    decision = judged(evidence({"roc_auc": 0.7}, dummy_comparison=compared), lift_over_dummy="5%")
    assert (decision.outcome, decision.rules[0].limit) == ("promoted", 0.0)


@pytest.mark.parametrize(
    ("metric", "constant", "outcome"),
    [
        ("roc_auc", "predictions", "rejected"),
        ("roc_auc", "labels", "promoted"),
        ("f1", "labels", "rejected"),
        ("f1", None, "promoted"),
        ("log_loss", "predictions", "rejected"),
    ],
)
def test_a_model_with_one_answer_is_rejected(metric: Any, constant: Any, outcome: Any) -> None:
    decision = judged(evidence({metric: 0.9}, metric, constant=constant))
    assert decision.outcome == outcome
    assert ("not constant" in {rule.rule for rule in decision.rules}) == (outcome == "rejected")


def test_a_metric_that_a_constant_answer_maximises_can_not_decide() -> None:
    compared = comparison(-0.1, 0.0, metric="recall", reference=1.0)
    decision = judged(evidence({"recall": 0.95}, "recall", dummy_comparison=compared))
    assert decision.outcome == "rejected"
    assert "a constant prediction has a perfect recall" in decision.rules[0].detail


def test_a_champion_that_could_not_be_compared_holds_the_model_unless_the_gate_says_otherwise() -> None:
    decision = evidence({"roc_auc": 0.9}, champion_version="3", champion_error="the file is gone")
    decision = judged(decision)
    assert (decision.outcome, decision.rules[-1].passed) == ("held", False)
    assert decision.reason == "compared with champion: champion version 3 could not be compared: the file is gone"
    decision = judged(decision, broken_champion="promote")
    assert (decision.outcome, decision.rules[-1].passed) == ("promoted", True)
    assert judged(decision, thresholds={"roc_auc": 0.95}, broken_champion="promote").outcome == "rejected"


def test_evidence_by_another_metric_is_held() -> None:
    decision = evidence({"roc_auc": 0.9, "f1": 0.8}, **against(0.1, 0.2))
    decision = judged(decision, metric="f1")
    assert decision.rules[0].detail == "the dummy baseline was compared by roc_auc, and this gate asks for f1"
    dummy = comparison(0.8, 0.8, metric="f1", reference=0.1)
    decision = judged(decision.model_copy(update={"dummy_comparison": dummy}), metric="f1")
    assert decision.outcome == "held"
    assert decision.reason == (
        "compared with champion: champion version 3 was compared by roc_auc, and this gate asks for f1"
    )


def test_another_confidence_widens_the_interval() -> None:
    decision = evidence({"roc_auc": 0.9}, **against(0.002, 0.042))
    assert judged(decision).outcome == "promoted"
    surer = judged(decision, confidence=0.99)
    assert surer.outcome == "held"
    assert surer.rules[-1].value == pytest.approx(0.022 - 0.02 * 2.5758 / 1.95996, abs=1e-6)
    assert "99 % interval" in surer.reason


def test_the_champions_own_model_again_is_no_change_whatever_was_allowed() -> None:
    for promote in ("auto", "hold", "never"):
        decision = judged(evidence({"roc_auc": 0.4}, **against(0, 0)), promote, same=True, thresholds={"roc_auc": 0.8})
        assert decision.outcome == "no_change"
        assert decision.reason == "data, code, parameters and environment resulted in the champion's model file"


@pytest.mark.parametrize(
    ("promote", "outcome", "reason"),
    [
        ("auto", "promoted", "all 2 rules passed"),
        ("hold", "held", "all rules passed; this run asks for approval before the promotion"),
        ("never", "rejected", "promotion was switched off for this run; all rules passed"),
    ],
)
def test_a_person_may_hold_or_switch_off_promotion(promote: Any, outcome: Any, reason: Any) -> None:
    decision = judged(evidence({"roc_auc": 0.9}), promote)
    assert (decision.outcome, decision.reason) == (outcome, reason)
    assert judged(evidence({"roc_auc": 0.4}), promote).outcome == "rejected"


def test_what_would_be_held_is_rejected_where_promotion_is_switched_off() -> None:
    decision = judged(evidence({"roc_auc": 0.9}, **against(-0.01, 0.05)), "never")
    assert decision.outcome == "rejected"
    assert decision.reason.startswith("promotion was switched off for this run; roc_auc is 0.02 better than that of")


def test_a_gate_may_ask_a_person_every_time() -> None:
    decision = judged(evidence({"roc_auc": 0.9}), approval={"when": "always"})
    assert (decision.outcome, decision.reason) == (
        "held",
        "all rules passed; the gate asks for approval of every promotion",
    )


# --- guards and groups of rows


def test_guards_limit_size_and_time() -> None:
    decision = evidence({"roc_auc": 0.9}, guards={"model_bytes": 2_000_000.0, "seconds_per_row": 0.002})
    assert judged(decision, guards={"max_model_bytes": 2_000_000, "max_seconds_per_row": 0.01}).outcome == "promoted"
    large = judged(decision, guards={"max_model_bytes": 1_500_000})
    assert (large.outcome, large.reason) == (
        "rejected",
        "guard model_bytes: the model's file has 2,000,000 bytes, and may have 1,500,000",
    )
    slow = judged(decision, guards={"max_seconds_per_row": 0.001})
    assert slow.reason == "guard seconds_per_row: a row takes the model 0.002 seconds, and may take 0.001"
    unknown = judged(evidence({"roc_auc": 0.9}), guards={"max_seconds_per_row": 1.0})
    assert (unknown.outcome, unknown.reason) == (
        "rejected",
        "guard seconds_per_row: seconds_per_row was not measured",
    )


def group(value: str, ours: float | None, theirs: float | None = None, metric: str = "roc_auc") -> SliceMetrics:
    champion = {} if theirs is None else {metric: theirs}
    return SliceMetrics(column="area", value=value, rows=60, metrics={metric: ours}, champion_metrics=champion)


def test_the_worst_group_must_reach_the_floor() -> None:
    decision = evidence({"roc_auc": 0.9}, slices=(group("north", 0.9), group("south", 0.6), group("east", None)))
    assert judged(decision, slices={"columns": ["area"], "floors": {"roc_auc": 0.6}}).outcome == "promoted"
    decision = judged(decision, slices={"columns": ["area"], "floors": {"roc_auc": 0.7}})
    assert (decision.outcome, decision.reason) == (
        "rejected",
        "slices roc_auc: roc_auc is 0.6 where area is south (60 rows), and must be at least 0.7 in every group",
    )
    assert (decision.rules[1].value, decision.rules[1].limit) == (0.6, 0.7)


def test_a_floor_is_a_maximum_where_less_is_better() -> None:
    slices = tuple(group(name, value, metric="rmse") for name, value in (("a", 1.0), ("b", 4.0)))
    decision = judged(evidence({"rmse": 2.0}, "rmse", slices=slices), slices={"floors": {"rmse": 3.0}})
    assert decision.reason == ("slices rmse: rmse is 4 where area is b (60 rows), and must be at most 3 in every group")


def test_no_group_may_drop_much_against_the_champion() -> None:
    slices = (group("north", 0.9, 0.8), group("south", 0.7, 0.8))
    decision = evidence({"roc_auc": 0.9}, slices=slices, **against(0.01, 0.05))
    assert judged(decision, slices={"max_drop": {"roc_auc": 0.1}}).outcome == "promoted"
    decision = judged(decision, slices={"max_drop": {"roc_auc": 0.05}})
    assert (decision.outcome, decision.reason) == (
        "rejected",
        "slices drop roc_auc: roc_auc is 0.1 worse than that of the champion where area is south (60 rows), "
        "and may be 0.05 worse in any group",
    )
    assert (decision.rules[1].value, decision.rules[1].limit) == (pytest.approx(0.1), 0.05)
    first = evidence({"roc_auc": 0.9}, slices=(group("south", 0.7),))
    assert judged(first, slices={"max_drop": {"roc_auc": 0.05}}).outcome == "promoted"


@pytest.mark.parametrize("slices", [(), (group("north", None),)])
def test_a_floor_without_a_group_that_could_be_measured_is_rejected(slices: Any) -> None:
    decision = judged(evidence({"roc_auc": 0.9}, slices=slices), slices={"floors": {"roc_auc": 0.7}})
    assert (decision.outcome, decision.reason) == (
        "rejected",
        "slices roc_auc: roc_auc could be measured in no group: none has enough rows, or enough of every class",
    )


# --- laws


@settings(deadline=None)
@given(
    metric=st.sampled_from(["roc_auc", "log_loss", "f1", "brier"]),
    value=numbers,
    better=numbers,
    limits=st.tuples(numbers, numbers),
    middle=st.floats(-0.5, 0.5),
    width=st.floats(0, 0.3),
    improvement=st.floats(-0.5, 0.5),
    margin=st.none() | st.floats(0.5, 1),
)
def test_a_better_model_never_fares_worse(
    metric: Any, value: Any, better: Any, limits: Any, middle: Any, width: Any, improvement: Any, margin: Any
) -> None:
    def outcome(value: float, middle: float) -> str:
        gate = {"thresholds": {metric: limits[0]}, "lift_over_dummy": limits[1]}
        decision = evidence({metric: value}, metric, **against(middle - width, middle + width, metric=metric))
        return judged(decision, improvement=improvement, non_inferiority=margin, **gate).outcome

    order = ["rejected", "held", "promoted"]
    after = value + better if get_metric(metric).greater_is_better else value - better
    assert order.index(outcome(after, middle + better)) >= order.index(outcome(value, middle))


@settings(deadline=None)
@given(
    value=numbers,
    low=st.floats(-1, 1),
    width=numbers,
    threshold=numbers,
    margin=st.none() | st.floats(0, 1),
    severities=st.lists(st.sampled_from(["hold", "warn"]), max_size=3),
)
def test_an_outcome_says_what_the_rules_say_and_can_be_reached_again(
    value: Any, low: Any, width: Any, threshold: Any, margin: Any, severities: Any
) -> None:
    gate = Gate(metric="roc_auc", thresholds={"roc_auc": threshold}, non_inferiority=margin)
    decision = evidence({"roc_auc": value}, findings=findings(*severities), **against(low, low + width))
    decision = apply_gate(decision, gate)
    assert (decision.outcome == "promoted") == all(rule.passed for rule in decision.rules)
    holding = ("findings", "beats champion")
    assert (decision.outcome == "rejected") != all(rule.passed for rule in decision.rules if rule.rule not in holding)
    stored = Decision.model_validate_json(decision.model_dump_json())
    assert apply_gate(stored, gate) == decision == stored


def test_the_rules_are_one_list() -> None:
    assert [rule.__name__ for rule in RULES] == [
        "_thresholds",
        "_not_constant",
        "compare_with_dummy",
        "_guards",
        "_slice_floors",
        "_slice_drops",
        "_findings",
        "compare_with_champion",
    ]


# --- simulation: the full one is tests/benchmarks/decision.py


def test_equal_models_are_promoted_as_rarely_as_the_confidence_says_and_better_ones_mostly() -> None:
    equal = rates("average_precision", 200, 0.0, 100, confidence=0.8, draws=200)
    # One in ten is expected, since the interval has two sides; of 100 these are three standard deviations.
    assert 0.01 <= equal["promoted"] <= 0.19
    assert 0.01 <= equal["rejected"] <= 0.19
    assert rates("average_precision", 1000, 0.4, 10, draws=200)["promoted"] > 0.7
