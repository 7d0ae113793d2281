"""The report of the step check_quality: one result for each check, and the verdict."""

from __future__ import annotations

from typing import Literal

from ml_pipelines.contracts import Contract, JsonValue
from ml_pipelines.spec.training import Severity

__all__ = ["CheckResult", "QualityReport"]


class CheckResult(Contract):
    """The result of one check.

    Attributes:
        check: name of the check, such as `missing`.
        column: the column that was checked; None for a check of the whole table.
        severity: what a failure leads to.
        passed: whether the data passed.
        detail: a sentence with the figures, and the fix if the check failed.
        value: the measured value.
        limit: the declared limit.
        rows: number of rows that break the rule; None if the check is not about single rows.
    """

    check: str
    column: str | None
    severity: Severity
    passed: bool
    detail: str
    value: JsonValue = None
    limit: JsonValue = None
    rows: int | None = None

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
    def warnings(self) -> list[CheckResult]:
        """The results that are reported and change nothing else."""
        return [check for check in self.checks if not check.passed and check.severity == "warn"]
