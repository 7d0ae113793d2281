"""The report of the step check_quality: one result for each check, and the verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal

from ml_pipelines.contracts import Contract, Finding, JsonValue
from ml_pipelines.spec.checks import Severity

__all__ = ["MAX_FINDINGS", "CheckResult", "QualityReport"]

MAX_FINDINGS = 20  # of one check; a table may have thousands of columns


class CheckResult(Contract):
    """The result of one check.

    Attributes:
        check: name of the check, such as `missing`.
        column: the column that was checked; None for a check of the whole table.
        severity: what a failure leads to.
        passed: whether the data passed.
        detail: a sentence with the figures.
        remedy: what to do about a failure; empty if the check passed.
        value: the measured value.
        limit: the declared limit.
        rows: number of rows that break the rule; None if the check is not about single rows.
        fix: keys of the section `data` that correct it, if one correction is the likely one.
    """

    check: str
    column: str | None
    severity: Severity
    passed: bool
    detail: str
    remedy: str = ""
    value: JsonValue = None
    limit: JsonValue = None
    rows: int | None = None
    fix: dict[str, JsonValue] | None = None

    @property
    def name(self) -> str:
        """The name of the check with its column, for lists of failures and warnings."""
        return f"{self.column}: {self.check}" if self.column else self.check


class QualityReport(Contract):
    """The quality of a table.

    Attributes:
        verdict: `stopped` if a check of severity `error` failed.
        rows: of the table.
        quarantined: number of rows that go to quarantine.
        checks: all results.
    """

    verdict: Literal["passed", "stopped"]
    rows: int
    quarantined: int
    checks: tuple[CheckResult, ...]

    @property
    def failures(self) -> list[CheckResult]:
        """The results that stop the run."""
        return [check for check in self.checks if not check.passed and check.severity == "error"]

    @property
    def holds(self) -> list[CheckResult]:
        """The results that hold the model for approval."""
        return [check for check in self.checks if not check.passed and check.severity == "hold"]

    @property
    def warnings(self) -> list[CheckResult]:
        """The results that are reported and change nothing else."""
        return [check for check in self.checks if not check.passed and check.severity == "warn"]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The failed checks as findings, the most severe first; without those whose rows are removed.

        A check that fails for many columns has a finding for the first of them, and one for the number of the others.
        """
        return tuple(_findings([*self.failures, *self.holds, *self.warnings]))


def _findings(failed: Sequence[CheckResult]) -> Iterator[Finding]:
    counts = Counter(check.check for check in failed)
    shown: Counter[str] = Counter()
    for check in failed:
        shown[check.check] += 1
        more = counts[check.check] - MAX_FINDINGS
        if shown[check.check] <= MAX_FINDINGS:
            yield Finding(**check.model_dump(include={"check", "column", "severity", "detail", "remedy"}))
        elif shown[check.check] == MAX_FINDINGS + 1:
            detail, remedy = f"{more} more columns fail this check", "The report of the run lists them."
            yield Finding(check=check.check, severity=check.severity, detail=detail, remedy=remedy)
