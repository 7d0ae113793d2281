from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.benchmarks.decision import rates

from ml_pipelines.contracts import Comparison, Decision, Interval, SliceMetrics
from ml_pipelines.promotion.gate import RULES, apply_gate
from ml_pipelines.spec.metrics import get_metric
from ml_pipelines.spec.training import Gate

numbers = st.floats(0, 1)


def evidence(metrics: dict[str, float | None], metric: str = "roc_auc", **fields: Any) -> Decision:
    """What is known of a candidate that is much better than a dummy."""
    dummy = {metric: 0.5 if get_metric(metric).greater_is_better else 5.0}
    known = {"metric": metric, "metrics": metrics, "dummy_metrics": dummy, **fields}
    return Decision(outcome="held", model="churn", candidate="tree", reason="not judged yet", **known)


def against(low: float, high: float, *, metric: str = "roc_auc", difference: float | None = None) -> dict[str, Any]:
    """A champion, version 3, and the interval of the difference to it."""
    difference = (low + high) / 2 if difference is None else difference
    interval = Interval(low=low, high=high, confidence=0.95)
    compared = Comparison(metric=metric, difference=difference, interval=interval, draws=2000, rows=1000)
    return {"champion_version": "3", "comparison": compared}


def judged(given: Decision, promote: Any = "auto", *, same: bool = False, **gate: Any) -> Decision:
    return apply_gate(given, Gate(**{"metric": given.metric, **gate}), promote=promote, same_as_champion=same)


def test_a_first_model_needs_thresholds_and_dummy_only() -> None:
    decision = judged(evidence({"roc_auc": 0.9, "recall": 0.7}), thresholds={"roc_auc": 0.8, "recall": 0.7})
    assert (decision.outcome, decision.reason) == ("promoted", "all 4 rules passed")
    assert [(rule.rule, rule.detail) for rule in decision.rules] == [
        ("threshold roc_auc", "roc_auc is 0.9 and must be at least 0.8"),
        ("threshold recall", "recall is 0.7 and must be at least 0.7"),
        (
            "beats dummy",
            "roc_auc is 0.4 better than that of the dummy baseline, and must be at least 0.01 better",
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
    given = evidence({"rmse": 2.0}, "rmse")
    assert judged(given, thresholds={"rmse": 2.0}).outcome == "promoted"
    assert judged(given, thresholds={"rmse": 1.5}).reason == "threshold rmse: rmse is 2 and must be at most 1.5"


def test_a_metric_that_could_not_be_measured_fails_its_rules() -> None:
    decision = judged(evidence({"roc_auc": None, "f1": 0.9}, champion_version="3"), thresholds={"brier": 0.2})
    assert decision.outcome == "rejected"
    assert [(rule.passed, rule.value, rule.detail) for rule in decision.rules] == [
        (False, None, "brier could not be measured on the test rows"),
        (False, None, "roc_auc could not be measured on the test rows"),
        (False, None, "champion version 3 could not be compared: roc_auc could not be measured on the test rows"),
    ]


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
    assert margin.rules[-1].detail.endswith("and the whole interval must be above +0.01")
    worse = judged(evidence({"roc_auc": 0.8}, **against(-0.06, -0.02)), non_inferiority=0.1)
    assert worse.reason == (
        "not worse than champion: roc_auc is 0.04 worse than that of champion version 3 "
        "(95 % interval -0.06 to -0.02), and some of the interval must reach 0"
    )
    assert (worse.rules[1].value, worse.rules[1].limit) == (-0.02, 0.0)


def test_a_champion_that_could_not_be_compared_holds_the_model_unless_the_gate_says_otherwise() -> None:
    given = evidence({"roc_auc": 0.9}, champion_version="3", champion_error="the file is gone")
    decision = judged(given)
    assert (decision.outcome, decision.rules[-1].passed) == ("held", False)
    assert decision.reason == "compared with champion: champion version 3 could not be compared: the file is gone"
    decision = judged(given, broken_champion="promote")
    assert (decision.outcome, decision.rules[-1].passed) == ("promoted", True)
    assert judged(given, thresholds={"roc_auc": 0.95}, broken_champion="promote").outcome == "rejected"


def test_evidence_by_another_metric_is_held() -> None:
    given = evidence({"roc_auc": 0.9, "f1": 0.8}, **against(0.1, 0.2))
    decision = judged(given.model_copy(update={"dummy_metrics": {"roc_auc": 0.5, "f1": 0.0}}), metric="f1")
    assert decision.outcome == "held"
    assert decision.reason == (
        "compared with champion: champion version 3 was compared by roc_auc, and this gate asks for f1"
    )


def test_another_confidence_widens_the_interval() -> None:
    given = evidence({"roc_auc": 0.9}, **against(0.002, 0.042))
    assert judged(given).outcome == "promoted"
    surer = judged(given, confidence=0.99)
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
    given = evidence({"roc_auc": 0.9}, guards={"model_bytes": 2_000_000.0, "seconds_per_row": 0.002})
    assert judged(given, guards={"max_model_bytes": 2_000_000, "max_seconds_per_row": 0.01}).outcome == "promoted"
    large = judged(given, guards={"max_model_bytes": 1_500_000})
    assert (large.outcome, large.reason) == (
        "rejected",
        "guard model_bytes: the model's file has 2,000,000 bytes, and may have 1,500,000",
    )
    slow = judged(given, guards={"max_seconds_per_row": 0.001})
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
    given = evidence({"roc_auc": 0.9}, slices=(group("north", 0.9), group("south", 0.6), group("east", None)))
    assert judged(given, slices={"columns": ["area"], "floors": {"roc_auc": 0.6}}).outcome == "promoted"
    decision = judged(given, slices={"columns": ["area"], "floors": {"roc_auc": 0.7}})
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
    given = evidence({"roc_auc": 0.9}, slices=slices, **against(0.01, 0.05))
    assert judged(given, slices={"max_drop": {"roc_auc": 0.1}}).outcome == "promoted"
    decision = judged(given, slices={"max_drop": {"roc_auc": 0.05}})
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
        given = evidence({metric: value}, metric, **against(middle - width, middle + width, metric=metric))
        return judged(given, improvement=improvement, non_inferiority=margin, **gate).outcome

    order = ["rejected", "held", "promoted"]
    after = value + better if get_metric(metric).greater_is_better else value - better
    assert order.index(outcome(after, middle + better)) >= order.index(outcome(value, middle))


@settings(deadline=None)
@given(value=numbers, low=st.floats(-1, 1), width=numbers, threshold=numbers, margin=st.none() | st.floats(0, 1))
def test_an_outcome_says_what_the_rules_say_and_can_be_reached_again(
    value: Any, low: Any, width: Any, threshold: Any, margin: Any
) -> None:
    gate = Gate(metric="roc_auc", thresholds={"roc_auc": threshold}, non_inferiority=margin)
    decision = apply_gate(evidence({"roc_auc": value}, **against(low, low + width)), gate)
    assert (decision.outcome == "promoted") == all(rule.passed for rule in decision.rules)
    assert (decision.outcome == "rejected") != all(rule.passed for rule in decision.rules[:-1])
    stored = Decision.model_validate_json(decision.model_dump_json())
    assert apply_gate(stored, gate) == decision == stored


def test_the_rules_are_one_list() -> None:
    assert [rule.__name__ for rule in RULES] == [
        "_thresholds",
        "_dummy",
        "_guards",
        "_slice_floors",
        "_slice_drops",
        "_champion",
    ]


# --- simulation: the full one is tests/benchmarks/decision.py


def test_equal_models_are_promoted_as_rarely_as_the_confidence_says_and_better_ones_mostly() -> None:
    equal = rates("average_precision", 200, 0.0, 100, confidence=0.8, draws=200)
    # One in ten is expected, since the interval has two sides; of 100 these are three standard deviations.
    assert 0.01 <= equal["promoted"] <= 0.19
    assert 0.01 <= equal["rejected"] <= 0.19
    assert rates("average_precision", 1000, 0.4, 10, draws=200)["promoted"] > 0.7
