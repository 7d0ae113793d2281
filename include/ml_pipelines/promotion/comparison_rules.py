"""The rules of the gate about differences: to the dummy baseline, and to the champion.

A limit of a difference is a number or a share, see :mod:`ml_pipelines.spec.difference_limits`. A share is compared with
the interval of the relative difference. Each draw divides its difference by its own reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

from ml_pipelines.contracts import Comparison, Decision, Interval, Outcome, RuleVerdict
from ml_pipelines.spec.difference_limits import as_share
from ml_pipelines.spec.gate import Gate
from ml_pipelines.spec.metric_table import get_metric

__all__ = ["ROUNDING", "RuleResult", "compare_with_champion", "compare_with_dummy", "unmeasured", "worse_or_better"]

RuleResult = tuple[RuleVerdict, Outcome]  # a verdict, and the outcome if it failed

ROUNDING = 1e-12  # tolerance for rounding, where a difference equals its limit


def unmeasured(metric: str) -> str:
    """Return the detail of a rule whose metric is undefined."""
    return f"{metric} could not be measured on the test rows"


def worse_or_better(gain: float) -> str:
    """Return the direction of a difference in words."""
    return "worse" if gain < 0 else "better"


def compare_with_dummy(evidence: Decision, gate: Gate) -> Iterator[RuleResult]:
    """Reject a candidate that is not clearly better than the dummy baseline."""
    rule, compared, lift = "beats dummy", evidence.dummy_comparison, gate.effective_lift
    if compared is None or compared.interval is None:
        yield RuleVerdict(rule=rule, passed=False, detail=unmeasured(gate.metric)), "rejected"
        return
    if compared.metric != gate.metric:
        detail = _other_metric("the dummy baseline", compared, gate)
        yield RuleVerdict(rule=rule, passed=False, detail=detail), "held"
        return
    bounds = _Bounds.of(compared, compared.interval, gate, lift)
    detail = f"{_difference(compared, bounds, 'the dummy baseline')}, {_must_be_above(bounds)}{_perfect(compared)}"
    passed = bounds.interval.low > bounds.limit + ROUNDING
    verdict = RuleVerdict(rule=rule, passed=passed, value=bounds.interval.low, limit=bounds.limit, detail=detail)
    yield verdict, "rejected"


def _perfect(compared: Comparison) -> str:
    """A remark on a metric that no model can improve."""
    if compared.reference is None or compared.reference != get_metric(compared.metric).best_value:
        return ""
    return f"; a constant prediction has a perfect {compared.metric}, so gate.metric must be another metric"


def compare_with_champion(evidence: Decision, gate: Gate) -> Iterator[RuleResult]:
    """Reject a candidate that is worse than the champion, and hold one that is not clearly better."""
    if evidence.champion_version is None:
        yield RuleVerdict(rule="first model", passed=True, detail="there is no champion to compare with"), "rejected"
        return
    champion, compared = f"champion version {evidence.champion_version}", evidence.comparison
    if compared is None or compared.interval is None:
        error = evidence.champion_error or unmeasured(gate.metric)
        detail = f"{champion} could not be compared: {error}"
        passed = gate.broken_champion == "promote"
        yield RuleVerdict(rule="compared with champion", passed=passed, detail=detail), "held"
        return
    if compared.metric != gate.metric:
        detail = _other_metric(champion, compared, gate)
        yield RuleVerdict(rule="compared with champion", passed=False, detail=detail), "held"
        return
    yield _not_worse(compared, compared.interval, gate, champion), "rejected"
    bounds = _Bounds.of(compared, compared.interval, gate, gate.improvement)
    verdict = RuleVerdict(
        rule="beats champion",
        passed=bounds.interval.low > bounds.limit,
        value=bounds.interval.low,
        limit=bounds.limit,
        detail=f"{_difference(compared, bounds, champion)}, {_must_be_above(bounds)}",
    )
    yield verdict, "held"


def _not_worse(compared: Comparison, interval: Interval, gate: Gate, champion: str) -> RuleVerdict:
    rule = "not worse than champion"
    bounds = _Bounds.of(compared, interval, gate, gate.improvement)
    # A negative improvement limit may promote a slightly worse candidate, so this rule must not reject it.
    bound, high = min(0.0, bounds.limit), bounds.interval.high
    if gate.non_inferiority is None or high < bound:
        detail = f"{_difference(compared, bounds, champion)}, and some of the interval must reach {bounds.text(bound)}"
        return RuleVerdict(rule=rule, passed=high >= bound, value=high, limit=bound, detail=detail)
    bounds = _Bounds.of(compared, interval, gate, gate.non_inferiority)
    low, margin = bounds.interval.low, -bounds.limit
    detail = f"{_difference(compared, bounds, champion)}, and none of the interval may be below {bounds.text(margin)}"
    return RuleVerdict(rule=rule, passed=low >= margin - ROUNDING, value=low, limit=margin, detail=detail)


@dataclass(frozen=True, slots=True)
class _Bounds:
    """A limit and the interval in the same unit: the difference, or the difference as a share of the reference.

    Attributes:
        interval: the interval in the unit of the limit.
        limit: the limit as a number.
        scale: absolute value of the reference, which converts a share to a difference; None if the limit is no share or
            there is no relative difference.
    """

    interval: Interval
    limit: float
    scale: float | None = None

    @classmethod
    def of(cls, compared: Comparison, interval: Interval, gate: Gate, limit: float | str) -> _Bounds:
        share, scale = as_share(limit), abs(compared.reference or 0.0)
        if share is None:
            return cls(_at_confidence(compared.difference, interval, gate.confidence), float(limit))
        if compared.relative is None:  # any share of a reference of zero is zero
            return cls(_at_confidence(compared.difference, interval, gate.confidence), 0.0)
        relative = _at_confidence(compared.difference / scale, compared.relative, gate.confidence)
        return cls(relative, share, scale)

    def text(self, value: float) -> str:
        """Return a bound for display; a share also as a difference."""
        if self.scale is None:
            return f"{value:.4g}"
        return f"{_percent(value)} ({value * self.scale:.4g})"


def _difference(compared: Comparison, bounds: _Bounds, reference: str) -> str:
    low, high = (
        f"{bound:+.4g}" if bounds.scale is None else f"{100 * bound:+.4g} %"
        for bound in (bounds.interval.low, bounds.interval.high)
    )
    share = "" if bounds.scale is None else f" ({_percent(abs(compared.difference) / bounds.scale)})"
    return (
        f"{compared.metric} is {abs(compared.difference):.4g}{share} {worse_or_better(compared.difference)} "
        f"than that of {reference} ({_percent(bounds.interval.confidence)} interval {low} to {high})"
    )


def _must_be_above(bounds: _Bounds) -> str:
    return f"and the whole interval must be above {bounds.text(bounds.limit)}"


def _other_metric(reference: str, compared: Comparison, gate: Gate) -> str:
    return f"{reference} was compared by {compared.metric}, and this gate asks for {gate.metric}"


def _at_confidence(middle: float, interval: Interval, confidence: float) -> Interval:
    """Return the interval for another confidence, as if the draws were normal; the draws are not stored."""
    if interval.confidence == confidence:
        return interval
    wanted, drawn = (NormalDist().inv_cdf((1 + level) / 2) for level in (confidence, interval.confidence))
    low, high = (middle + wanted / drawn * (bound - middle) for bound in (interval.low, interval.high))
    return Interval(low=low, high=high, confidence=confidence)


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"
