"""The gate: rules that turn the evidence of a decision into an outcome; nothing is measured or looked up here.

A rule yields verdicts, each with the outcome of a failure: the model is rejected, or held for approval. A new rule is
a function in `RULES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import NormalDist

from ml_pipelines.contracts import Comparison, Decision, Interval, Outcome, Promote, RuleVerdict, SliceMetrics
from ml_pipelines.spec.metrics import get_metric
from ml_pipelines.spec.training import Gate

__all__ = ["RULES", "Rule", "RuleResult", "apply_gate", "metric_gain"]

RuleResult = tuple[RuleVerdict, Outcome]  # a verdict, and the outcome if it failed
Rule = Callable[[Decision, Gate], Iterator[RuleResult]]

ROUNDING = 1e-12  # rounding error of a difference that equals its limit
_SEVERITY: tuple[Outcome, ...] = ("rejected", "held")  # the more severe first


def apply_gate(
    evidence: Decision, gate: Gate, *, promote: Promote = "auto", same_as_champion: bool = False
) -> Decision:
    """Return the decision with the outcome, the reason and the verdicts of a gate.

    Args:
        evidence: a decision, which may be an old one; its outcome, reason and rules are ignored.
        gate: the rules' limits.
        promote: option of the run: `auto`, `hold` or `never`.
        same_as_champion: the candidate's model file equals the champion's.
    """
    results = [result for rule in RULES for result in rule(evidence, gate)]
    rules = tuple(verdict for verdict, _ in results)
    outcome, reason = _outcome(results, gate, promote)
    if same_as_champion:
        outcome, reason = "no_change", "data, code, parameters and environment resulted in the champion's model file"
    return evidence.model_copy(update={"outcome": outcome, "reason": reason, "rules": rules})


def metric_gain(metric: str, ours: float | None, theirs: float | None) -> float | None:
    """By how much ours is better; negative if it is worse, None if one of them is not known."""
    if ours is None or theirs is None:
        return None
    return ours - theirs if get_metric(metric).greater_is_better else theirs - ours


def _outcome(results: list[RuleResult], gate: Gate, promote: Promote) -> tuple[Outcome, str]:
    for outcome in _SEVERITY:
        failed = [verdict for verdict, severity in results if severity == outcome and not verdict.passed]
        if failed:
            more = len(failed) - 1
            also = f" (and {more} more of {len(results)} rules failed)" if more else ""
            if outcome == "held" and promote == "never":
                return "rejected", f"promotion was switched off for this run; {failed[0].detail}{also}"
            return outcome, f"{failed[0].rule}: {failed[0].detail}{also}"
    if promote == "never":
        return "rejected", "promotion was switched off for this run; all rules passed"
    if promote == "hold":
        return "held", "all rules passed; this run asks for approval before the promotion"
    if gate.approval.when == "always":
        return "held", "all rules passed; the gate asks for approval of every promotion"
    return "promoted", f"all {len(results)} rules passed"


# --- the candidate alone


def _thresholds(evidence: Decision, gate: Gate) -> Iterator[RuleResult]:
    for name, limit in gate.thresholds.items():
        yield _limit(f"threshold {name}", name, evidence.metrics.get(name), limit), "rejected"


def _limit(rule: str, metric: str, value: float | None, limit: float) -> RuleVerdict:
    if value is None:
        return RuleVerdict(rule=rule, passed=False, limit=limit, detail=_unmeasured(metric))
    detail = f"{metric} is {value:.6g} and must be {_limit_text(metric, limit)}"
    return RuleVerdict(rule=rule, passed=_reaches(metric, value, limit), value=value, limit=limit, detail=detail)


def _reaches(metric: str, value: float, limit: float) -> bool:
    return value >= limit if get_metric(metric).greater_is_better else value <= limit


def _limit_text(metric: str, limit: float) -> str:
    return f"at {'least' if get_metric(metric).greater_is_better else 'most'} {limit:.6g}"


def _unmeasured(metric: str) -> str:
    return f"{metric} could not be measured on the test rows"


def _dummy(evidence: Decision, gate: Gate) -> Iterator[RuleResult]:
    """Compare with the dummy baseline: better by the limit of the gate, and by more than rounding."""
    rule, limit, metric = "beats dummy", gate.lift_over_dummy, gate.metric
    gain = metric_gain(metric, evidence.metrics.get(metric), evidence.dummy_metrics.get(metric))
    if gain is None:
        yield RuleVerdict(rule=rule, passed=False, limit=limit, detail=_unmeasured(metric)), "rejected"
        return
    detail = (
        f"{metric} is {abs(gain):.6g} {_way(gain)} than that of the dummy baseline, "
        f"and must be at least {limit:.6g} better"
    )
    passed = gain > ROUNDING and gain >= limit - ROUNDING
    yield RuleVerdict(rule=rule, passed=passed, value=gain, limit=limit, detail=detail), "rejected"


def _guards(evidence: Decision, gate: Gate) -> Iterator[RuleResult]:
    limits = {
        "model_bytes": (gate.guards.max_model_bytes, "the model's file has {:,.0f} bytes"),
        "seconds_per_row": (gate.guards.max_seconds_per_row, "a row takes the model {:.3g} seconds"),
    }
    for name, (limit, text) in limits.items():
        if limit is None:
            continue
        rule, value = f"guard {name}", evidence.guards.get(name)
        if value is None:
            detail = f"{name} was not measured"
            yield RuleVerdict(rule=rule, passed=False, limit=limit, detail=detail), "rejected"
            continue
        detail = f"{text.format(value)}, and may {'have' if name == 'model_bytes' else 'take'} {limit:,.12g}"
        yield RuleVerdict(rule=rule, passed=value <= limit, value=value, limit=limit, detail=detail), "rejected"


# --- groups of rows


def _slice_floors(evidence: Decision, gate: Gate) -> Iterator[RuleResult]:
    for metric, limit in gate.slices.floors.items():
        measured = [(value, group) for group in evidence.slices if (value := group.metrics.get(metric)) is not None]
        rule = f"slices {metric}"
        if not measured:
            yield _no_slice(rule, metric, limit), "rejected"
            continue
        value, worst = _worst(measured, greater_is_better=get_metric(metric).greater_is_better)
        passed = _reaches(metric, value, limit)
        detail = (
            f"{metric} is {value:.6g} where {_named(worst)}, and must be {_limit_text(metric, limit)} in every group"
        )
        yield RuleVerdict(rule=rule, passed=passed, value=value, limit=limit, detail=detail), "rejected"


def _slice_drops(evidence: Decision, gate: Gate) -> Iterator[RuleResult]:
    if not any(group.champion_metrics for group in evidence.slices):
        return
    for metric, limit in gate.slices.max_drop.items():
        gains = [
            (gain, group)
            for group in evidence.slices
            if (gain := metric_gain(metric, group.metrics.get(metric), group.champion_metrics.get(metric))) is not None
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
    """Compare with the champion: reject a worse candidate, hold one that is not clearly better."""
    if evidence.champion_version is None:
        yield RuleVerdict(rule="first model", passed=True, detail="there is no champion to compare with"), "rejected"
        return
    champion, compared = f"champion version {evidence.champion_version}", evidence.comparison
    if compared is None or compared.interval is None:
        error = evidence.champion_error or _unmeasured(gate.metric)
        detail = f"{champion} could not be compared: {error}"
        passed = gate.broken_champion == "promote"
        yield RuleVerdict(rule="compared with champion", passed=passed, detail=detail), "held"
        return
    if compared.metric != gate.metric:
        detail = f"{champion} was compared by {compared.metric}, and this gate asks for {gate.metric}"
        yield RuleVerdict(rule="compared with champion", passed=False, detail=detail), "held"
        return
    interval = _at_confidence(compared, compared.interval, gate.confidence)
    shown = (
        f"{gate.metric} is {abs(compared.difference):.4g} {_way(compared.difference)} than that of {champion} "
        f"({_percent(interval.confidence)} interval {interval.low:+.4g} to {interval.high:+.4g})"
    )
    yield _not_worse(interval, gate, shown), "rejected"
    limit = gate.improvement
    condition = (
        f"and the whole interval must be above {limit:+.4g}" if limit else "and the whole interval must be above 0"
    )
    verdict = RuleVerdict(
        rule="beats champion",
        passed=interval.low > limit,
        value=interval.low,
        limit=limit,
        detail=f"{shown}, {condition}",
    )
    yield verdict, "held"


def _not_worse(interval: Interval, gate: Gate, shown: str) -> RuleVerdict:
    rule, margin = "not worse than champion", gate.non_inferiority
    bound = min(0.0, gate.improvement)  # a candidate that may be promoted is not worse
    if margin is None or interval.high < bound:
        detail = f"{shown}, and some of the interval must reach {bound:.4g}"
        return RuleVerdict(rule=rule, passed=interval.high >= bound, value=interval.high, limit=bound, detail=detail)
    detail = f"{shown}, and none of the interval may be below {-margin:.4g}"
    passed = interval.low >= -margin - ROUNDING
    return RuleVerdict(rule=rule, passed=passed, value=interval.low, limit=-margin, detail=detail)


def _at_confidence(compared: Comparison, interval: Interval, confidence: float) -> Interval:
    """Return the interval for another confidence, as if the draws were normal; the draws are not stored."""
    if interval.confidence == confidence:
        return interval
    wanted, drawn = (NormalDist().inv_cdf((1 + level) / 2) for level in (confidence, interval.confidence))
    middle, scale = compared.difference, wanted / drawn
    low, high = (middle + scale * (bound - middle) for bound in (interval.low, interval.high))
    return Interval(low=low, high=high, confidence=confidence)


def _percent(share: float) -> str:
    return f"{100 * share:.6g} %"


def _way(gain: float) -> str:
    return "worse" if gain < 0 else "better"


RULES: tuple[Rule, ...] = (_thresholds, _dummy, _guards, _slice_floors, _slice_drops, _champion)
