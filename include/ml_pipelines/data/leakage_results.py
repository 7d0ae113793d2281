"""The results of the leakage check: a failed one for each suspicious column, and a summary."""

from __future__ import annotations

from collections.abc import Iterator

from ml_pipelines._utils.yaml_quoting import quote_yaml
from ml_pipelines.data.check_results import CheckResult
from ml_pipelines.data.leakage import Leakage
from ml_pipelines.spec.checks import LeakageCheck, Severity
from ml_pipelines.spec.metric_table import Task

__all__ = ["leakage_results"]

_MAX_LISTED = 20


def leakage_results(leakage: Leakage, target: str, task: Task, check: LeakageCheck) -> Iterator[CheckResult]:
    """Yield a failed result for each column whose strength reaches the limit, and a summary.

    A column that predicts only one of several classes gets the severity `warn`, because a legitimate feature
    can do this.
    """
    measure = "AUC" if task == "classification" else "rank correlation"
    leaks = {name: strength for name, strength in leakage.strengths.items() if strength >= check.max_auc}
    for name, strength in leaks.items():
        yield _leak(name, f"`{target}` ({measure} {strength:.3f})", check.on_fail, (strength, check.max_auc))
    for name, (label, auc) in leakage.of_one_class.items():
        if name not in leaks and auc >= check.max_auc:
            yield _leak(name, f"the class `{label}` of `{target}` (AUC {auc:.3f})", "warn", (auc, check.max_auc))
    yield CheckResult(
        check="leakage",
        column=None,
        severity=check.on_fail,
        passed=True,
        detail="; ".join(_summary(leakage, set(leaks), measure)),
        value=max(leakage.strengths.values(), default=None),
        limit=check.max_auc,
    )


def _leak(name: str, predicted: str, severity: Severity, measured: tuple[float, float]) -> CheckResult:
    harmless = "ignore this warning" if severity == "warn" else "set `checks: {leakage: {on_fail: warn}}`"
    remedy = (
        f"If it is only known after the outcome, add it to the declaration: `data: {{ignore: [{quote_yaml(name)}]}}`. "
        f"If it is known before, {harmless}."
    )
    return CheckResult(
        check="leakage",
        column=name,
        severity=severity,
        passed=False,
        detail=f"Possible target leakage: `{name}` alone predicts {predicted}",
        remedy=remedy,
        value=measured[0],
        limit=measured[1],
        fix={"ignore": [name]},
    )


def _summary(leakage: Leakage, leaks: set[str], measure: str) -> Iterator[str]:
    others = {name: strength for name, strength in leakage.strengths.items() if name not in leaks}
    if others:
        strongest = max(others, key=others.__getitem__)
        yield f"the strongest column below the limit is {strongest} ({measure} {others[strongest]:.3f})"
    elif not leaks:
        yield "leakage was not measured: too few rows, a single value of the target, or no column to compare"
    if leakage.not_judged:
        listed = [f"{name} ({reason})" for name, reason in list(leakage.not_judged.items())[:_MAX_LISTED]]
        more = len(leakage.not_judged) - len(listed)
        yield f"values not compared: {', '.join(listed)}" + (f" and {more} more" if more else "")
