"""The gate: may a model serve? Rules over the evidence of a decision; nothing is measured or looked up here.

A rule yields verdicts, each with what it means if it fails: the model is rejected, or held for a person. A new rule is
a function in `RULES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import NormalDist

from ml_pipelines.contracts import Comparison, Decision, Interval, Outcome, Promote, RuleVerdict, SliceMetrics
from ml_pipelines.spec.metrics import get_metric
from ml_pipelines.spec.training import Gate

__all__ = ["RULES", "Rule", "RuleResult", "apply_gate", "metric_gain"]

RuleResult = tuple[RuleVerdict, Outcome]  # a verdict, and the outcome if it is "not passed"
Rule = Callable[[Decision, Gate], Iterator[RuleResult]]

ROUNDING = 1e-12  # a difference that was meant to equal its limit may miss it by this much
_GRAVITY: tuple[Outcome, ...] = ("rejected", "held")  # the graver first


def apply_gate(
    evidence: Decision, gate: Gate, *, promote: Promote = "auto", same_as_champion: bool = False
) -> Decision:
    """The same decision with the outcome, the reason and the rules' verdicts that a gate gives it.

    Args:
        evidence: a decision; its outcome, reason and rules are not looked at, so it may be one of long ago.
        gate: the rules' limits.
        promote: what the person who started the run allows.
        same_as_champion: the candidate is the champion's own model again, byte for byte.
    """
    found = [each for rule in RULES for each in rule(evidence, gate)]
    rules = tuple(verdict for verdict, _ in found)
    outcome, reason = _outcome(found, gate, promote)
    if same_as_champion:
        outcome, reason = "no_change", "data, code, parameters and environment gave the champion's own model again"
    return evidence.model_copy(update={"outcome": outcome, "reason": reason, "rules": rules})


def metric_gain(metric: str, ours: float | None, theirs: float | None) -> float | None:
    """By how much ours is better; negative if it is worse, None if one of them is not known."""
    if ours is None or theirs is None:
        return None
    return ours - theirs if get_metric(metric).greater_is_better else theirs - ours


def _outcome(found: list[RuleResult], gate: Gate, promote: Promote) -> tuple[Outcome, str]:
    for outcome in _GRAVITY:
        failed = [verdict for verdict, gravity in found if gravity == outcome and not verdict.passed]
        if failed:
            more = len(failed) - 1
            also = f" (and {more} more of {len(found)} rules failed)" if more else ""
            if outcome == "held" and promote == "never":
                return "rejected", f"promotion was switched off for this run; {failed[0].detail}{also}"
            return outcome, f"{failed[0].rule}: {failed[0].detail}{also}"
    if promote == "never":
        return "rejected", "promotion was switched off for this run; all rules passed"
    if promote == "hold":
        return "held", "all rules passed; this run asks a person before the model may serve"
    if gate.approval.when == "always":
        return "held", "all rules passed; a person is asked before any model may serve"
    return "promoted", f"all {len(found)} rules passed"


# --- the model by itself


def _thresholds(evidence: Decision, gate: Gate) -> Iterator[RuleResult]:
    for name, limit in gate.thresholds.items():
        yield _limit(f"threshold {name}", name, evidence.metrics.get(name), limit), "rejected"


def _limit(rule: str, metric: str, value: float | None, limit: float) -> RuleVerdict:
    if value is None:
        return RuleVerdict(rule=rule, passed=False, limit=limit, detail=_unmeasured(metric))
    detail = f"{metric} is {value:.6g} and must be {_asked(metric, limit)}"
    return RuleVerdict(rule=rule, passed=_reaches(metric, value, limit), value=value, limit=limit, detail=detail)


def _reaches(metric: str, value: float, limit: float) -> bool:
    return value >= limit if get_metric(metric).greater_is_better else value <= limit


def _asked(metric: str, limit: float) -> str:
    return f"at {'least' if get_metric(metric).greater_is_better else 'most'} {limit:.6g}"


def _unmeasured(metric: str) -> str:
    return f"{metric} could not be measured on the test rows"


def _dummy(evidence: Decision, gate: Gate) -> Iterator[RuleResult]:
    """Better than a model that learned nothing: by what the gate asks for, and by anything at all."""
    rule, limit, metric = "beats dummy", gate.lift_over_dummy, gate.metric
    gain = metric_gain(metric, evidence.metrics.get(metric), evidence.dummy_metrics.get(metric))
    if gain is None:
        yield RuleVerdict(rule=rule, passed=False, limit=limit, detail=_unmeasured(metric)), "rejected"
        return
    detail = (
        f"{metric} is {abs(gain):.6g} {_way(gain)} than that of a model that learned nothing, "
        f"and must be at least {limit:.6g} better"
    )
    passed = gain > ROUNDING and gain >= limit - ROUNDING
    yield RuleVerdict(rule=rule, passed=passed, value=gain, limit=limit, detail=detail), "rejected"


def _guards(evidence: Decision, gate: Gate) -> Iterator[RuleResult]:
    limits = {
        "model_bytes": (gate.guards.max_model_bytes, "the model's file has {:,.0f} bytes"),
        "seconds_per_row": (gate.guards.max_seconds_per_row, "a row takes the model {:.3g} seconds"),
    }
    for name, (limit, told) in limits.items():
        if limit is None:
            continue
        rule, value = f"guard {name}", evidence.guards.get(name)
        if value is None:
            detail = f"{name} was not measured"
            yield RuleVerdict(rule=rule, passed=False, limit=limit, detail=detail), "rejected"
            continue
        detail = f"{told.format(value)}, and may {'have' if name == 'model_bytes' else 'take'} {limit:,.12g}"
        yield RuleVerdict(rule=rule, passed=value <= limit, value=value, limit=limit, detail=detail), "rejected"


# --- groups of rows


def _slice_floors(evidence: Decision, gate: Gate) -> Iterator[RuleResult]:
    for metric, limit in gate.slices.floors.items():
        measured = [(value, each) for each in evidence.slices if (value := each.metrics.get(metric)) is not None]
        rule = f"slices {metric}"
        if not measured:
            yield _no_slice(rule, metric, limit), "rejected"
            continue
        value, worst = _worst(measured, greater_is_better=get_metric(metric).greater_is_better)
        passed = _reaches(metric, value, limit)
        detail = f"{metric} is {value:.6g} where {_named(worst)}, and must be {_asked(metric, limit)} in every group"
        yield RuleVerdict(rule=rule, passed=passed, value=value, limit=limit, detail=detail), "rejected"


def _slice_drops(evidence: Decision, gate: Gate) -> Iterator[RuleResult]:
    if not any(each.champion_metrics for each in evidence.slices):
        return
    for metric, limit in gate.slices.max_drop.items():
        gains = [
            (gain, each)
            for each in evidence.slices
            if (gain := metric_gain(metric, each.metrics.get(metric), each.champion_metrics.get(metric))) is not None
        ]
        rule = f"slices drop {metric}"
        if not gains:
            yield _no_slice(rule, metric, limit), "rejected"
            continue
        gain, worst = _worst(gains, greater_is_better=True)
        passed = gain >= -limit - ROUNDING
        detail = (
            f"{metric} is {abs(gain):.6g} {_way(gain)} than that of the champion where {_named(worst)}, "
            f"and may be {limit:.6g} worse in any group"
        )
        yield RuleVerdict(rule=rule, passed=passed, value=-gain, limit=limit, detail=detail), "rejected"


def _no_slice(rule: str, metric: str, limit: float) -> RuleVerdict:
    detail = f"{metric} could be measured in no group: none has enough rows, or enough of every class"
    return RuleVerdict(rule=rule, passed=False, limit=limit, detail=detail)


def _worst(measured: list[tuple[float, SliceMetrics]], *, greater_is_better: bool) -> tuple[float, SliceMetrics]:
    return min(measured, key=lambda each: each[0] if greater_is_better else -each[0])


def _named(group: SliceMetrics) -> str:
    return f"{group.column} is {group.value} ({group.rows} rows)"


# --- against the champion


def _champion(evidence: Decision, gate: Gate) -> Iterator[RuleResult]:
    """Not worse, or it is rejected; clearly better, or it is held."""
    if evidence.champion_version is None:
        yield RuleVerdict(rule="first model", passed=True, detail="there is no champion to compare with"), "rejected"
        return
    who, compared = f"champion version {evidence.champion_version}", evidence.comparison
    if compared is None or compared.interval is None:
        why = evidence.champion_error or _unmeasured(gate.metric)
        detail = f"{who} could not be compared: {why}"
        passed = gate.broken_champion == "promote"
        yield RuleVerdict(rule="compared with champion", passed=passed, detail=detail), "held"
        return
    if compared.metric != gate.metric:
        detail = f"{who} was compared by {compared.metric}, and this gate asks for {gate.metric}"
        yield RuleVerdict(rule="compared with champion", passed=False, detail=detail), "held"
        return
    interval = _at_confidence(compared, compared.interval, gate.confidence)
    shown = (
        f"{gate.metric} is {abs(compared.difference):.4g} {_way(compared.difference)} than that of {who} "
        f"({_percent(interval.confidence)} interval {interval.low:+.4g} to {interval.high:+.4g})"
    )
    yield _not_worse(interval, gate, shown), "rejected"
    limit = gate.improvement
    asked = f"and the whole interval must be above {limit:+.4g}" if limit else "and the whole interval must be above 0"
    verdict = RuleVerdict(
        rule="beats champion", passed=interval.low > limit, value=interval.low, limit=limit, detail=f"{shown}, {asked}"
    )
    yield verdict, "held"


def _not_worse(interval: Interval, gate: Gate, shown: str) -> RuleVerdict:
    rule, margin = "not worse than champion", gate.non_inferiority
    bound = min(0.0, gate.improvement)  # what may be promoted is not worse
    if margin is None or interval.high < bound:
        detail = f"{shown}, and some of the interval must reach {bound:.4g}"
        return RuleVerdict(rule=rule, passed=interval.high >= bound, value=interval.high, limit=bound, detail=detail)
    detail = f"{shown}, and none of the interval may be below {-margin:.4g}"
    passed = interval.low >= -margin - ROUNDING
    return RuleVerdict(rule=rule, passed=passed, value=interval.low, limit=-margin, detail=detail)


def _at_confidence(compared: Comparison, interval: Interval, confidence: float) -> Interval:
    """The interval that another confidence would give, if the draws were normal: they are not kept."""
    if interval.confidence == confidence:
        return interval
    wanted, drawn = (NormalDist().inv_cdf((1 + each) / 2) for each in (confidence, interval.confidence))
    middle, scale = compared.difference, wanted / drawn
    low, high = (middle + scale * (bound - middle) for bound in (interval.low, interval.high))
    return Interval(low=low, high=high, confidence=confidence)


def _percent(share: float) -> str:
    return f"{100 * share:.6g} %"


def _way(gain: float) -> str:
    return "worse" if gain < 0 else "better"


RULES: tuple[Rule, ...] = (_thresholds, _dummy, _guards, _slice_floors, _slice_drops, _champion)
