"""The gate: rules that turn the evidence of a decision into an outcome; nothing is measured or looked up here.

A rule yields verdicts. Each verdict has the outcome of its failure: `rejected` or `held`. A new rule is a function in
`RULES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ml_pipelines.contracts import Decision, Outcome, Promote, RuleVerdict, SliceMetrics
from ml_pipelines.promotion.comparison_rules import (
    ROUNDING,
    RuleResult,
    compare_with_champion,
    compare_with_dummy,
    unmeasured,
    worse_or_better,
)
from ml_pipelines.spec.gate import Gate
from ml_pipelines.spec.metric_table import get_metric

__all__ = ["FINDINGS_RULE", "RULES", "Rule", "RuleResult", "apply_gate", "metric_gain"]

Rule = Callable[[Decision, Gate], Iterator[RuleResult]]

FINDINGS_RULE = "findings"
_SEVERITY: tuple[Outcome, ...] = ("rejected", "held")  # the more severe first


def apply_gate(
    evidence: Decision, gate: Gate, *, promote: Promote = "auto", same_as_champion: bool = False
) -> Decision:
    """Return the decision with the outcome, the reason and the verdicts of a gate.

    Args:
        evidence: a decision, which may be an old one; its outcome, reason and rules are ignored.
        gate: the rules' limits.
        promote: option of the run. `auto` follows the rules, `hold` holds a model that passes all rules, and `never`
            rejects it.
        same_as_champion: the candidate's model file equals the champion's.
    """
    results = [result for rule in RULES for result in rule(evidence, gate)]
    rules = tuple(verdict for verdict, _ in results)
    outcome, reason = _outcome(results, gate, promote)
    if same_as_champion:
        outcome, reason = "no_change", "data, code, parameters and environment resulted in the champion's model file"
    return evidence.model_copy(update={"outcome": outcome, "reason": reason, "rules": rules})


def metric_gain(metric: str, value: float | None, reference: float | None) -> float | None:
    """Return by how much a value is better than the reference; negative if worse, None if one is undefined."""
    if value is None or reference is None:
        return None
    return value - reference if get_metric(metric).greater_is_better else reference - value


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
        return RuleVerdict(rule=rule, passed=False, limit=limit, detail=unmeasured(metric))
    detail = f"{metric} is {value:.6g} and must be {_limit_text(metric, limit)}"
    return RuleVerdict(rule=rule, passed=_reaches(metric, value, limit), value=value, limit=limit, detail=detail)


def _reaches(metric: str, value: float, limit: float) -> bool:
    return value >= limit if get_metric(metric).greater_is_better else value <= limit


def _limit_text(metric: str, limit: float) -> str:
    return f"at {'least' if get_metric(metric).greater_is_better else 'most'} {limit:.6g}"


def _not_constant(evidence: Decision, gate: Gate) -> Iterator[RuleResult]:
    """Reject a model with one answer: one prediction, or one label where the metric judges labels."""
    judged = get_metric(gate.metric).needs in ("labels", "confusion")
    if evidence.constant == "predictions" or (evidence.constant == "labels" and judged):
        detail = f"the model has the same {evidence.constant} for all test rows"
        yield RuleVerdict(rule="not constant", passed=False, value=1, limit=2, detail=detail), "rejected"


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


# --- the data and the comparison


def _findings(evidence: Decision, gate: Gate) -> Iterator[RuleResult]:
    """Hold the model for a finding of severity `hold`, also a first model."""
    holding = [finding for finding in evidence.findings if finding.severity == "hold"]
    if holding:
        more = f" (and {len(holding) - 1} more findings)" if len(holding) > 1 else ""
        detail = f"{holding[0].detail}{more}"
        verdict = RuleVerdict(rule=FINDINGS_RULE, passed=False, value=len(holding), limit=0, detail=detail)
        yield verdict, "held"


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
            f"{metric} is {abs(gain):.6g} {worse_or_better(gain)} than that of the champion where {_named(worst)}, "
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


RULES: tuple[Rule, ...] = (
    _thresholds,
    _not_constant,
    compare_with_dummy,
    _guards,
    _slice_floors,
    _slice_drops,
    _findings,
    compare_with_champion,
)
