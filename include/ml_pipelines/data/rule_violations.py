"""The rows that break a rule, and the check result that reports them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import polars as pl

from ml_pipelines.contracts import JsonValue
from ml_pipelines.data.check_results import CheckResult
from ml_pipelines.data.column_expressions import ROW
from ml_pipelines.spec.checks import Severity

__all__ = ["MAX_EXAMPLES", "SEVERITY_ADVICE", "CheckOutcome", "RuleViolation", "format_value", "violation_outcome"]

MAX_EXAMPLES = 3
SEVERITY_ADVICE: dict[Severity, str] = {
    "error": "Correct them at the source, or change the rule or its on_fail.",
    "hold": "Correct them at the source, or change the rule or its on_fail.",
    "warn": "Correct them at the source, or change the rule; the run continues with them.",
    "quarantine": "They go to quarantine.",
}
_SHOWN_CHARACTERS = 60


@dataclass(slots=True)
class RuleViolation:
    """A rule and the cells that break it.

    Attributes:
        check: name of the rule, as declared.
        column: the column of the rule.
        reason: why a row that breaks the rule is in quarantine.
        limit: the declared limit.
        examples: value and row of the first few cells.
        positions: rows of all cells, in chunks.
    """

    check: str
    column: str
    reason: str
    limit: JsonValue = None
    examples: list[tuple[Any, int]] = field(default_factory=list)
    positions: list[pl.Series] = field(default_factory=list)

    @property
    def count(self) -> int:
        """The number of rows that break the rule."""
        return sum(len(chunk) for chunk in self.positions)

    def add(self, cells: pl.DataFrame) -> None:
        """Add cells (value, row) that break the rule."""
        self.examples += cells.head(MAX_EXAMPLES - len(self.examples)).rows()
        self.positions.append(cells[ROW])


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """A check result, and the rows that break the rule with the reason for their quarantine."""

    result: CheckResult
    positions: pl.Series | None = None
    reason: str = ""


def violation_outcome(violation: RuleViolation, rows: int, severity: Severity) -> CheckOutcome:
    """Return the outcome of a rule that holds for each cell.

    Args:
        violation: the rule and the cells that break it.
        rows: of the table.
        severity: of the rule.
    """
    detail = f"none of {rows} rows breaks the rule"
    if violation.count:
        examples = ", ".join(f"{format_value(value)} (row {row})" for value, row in violation.examples)
        detail = f"{violation.reason} in {violation.count} of {rows} rows: {examples}"
    result = CheckResult(
        check=violation.check,
        column=violation.column,
        severity=severity,
        passed=violation.count == 0,
        detail=detail,
        remedy=SEVERITY_ADVICE[severity] if violation.count else "",
        value=violation.count,
        limit=violation.limit,
        rows=violation.count,
    )
    positions = pl.concat(violation.positions) if violation.positions else None
    return CheckOutcome(result, positions, violation.reason)


def format_value(value: object) -> str:
    """Return a value as an example shows it, in at most 60 characters."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
