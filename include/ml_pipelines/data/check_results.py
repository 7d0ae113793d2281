"""What the quality gate knows of a table, and what it finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from ml_pipelines.contracts import JsonValue
from ml_pipelines.data.cell_checks import EXAMPLES, RuleViolation
from ml_pipelines.data.streaming import BAD_CELLS, ROW, aggregate, missing_expr
from ml_pipelines.spec.training import Severity

__all__ = [
    "SEVERITY_ADVICE",
    "CheckResult",
    "TableStatistics",
    "compute_statistics",
    "find_violations",
    "format_value",
    "violation_result",
]

SEVERITY_ADVICE: dict[Severity, str] = {
    "error": "Correct them at the source, or change the rule or its on_fail.",
    "warn": "The run goes on with them.",
    "quarantine": "They are set aside.",
}
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One line of the report, and, for the quarantine, which rows break the rule and the reason to give."""

    check: str
    column: str | None
    severity: Severity
    passed: bool
    detail: str
    value: JsonValue = None
    limit: JsonValue = None
    rows: int | None = None
    positions: pl.Series | None = None
    reason: str = ""

    @property
    def name(self) -> str:
        """What the check is called in lists of failures and warnings."""
        return f"{self.column}: {self.check}" if self.column else self.check

    def as_json(self) -> dict[str, JsonValue]:
        """The line of the report."""
        fields = ("check", "column", "severity", "passed", "value", "limit", "rows", "detail")
        return {name: getattr(self, name) for name in fields}


@dataclass(frozen=True, slots=True)
class TableStatistics:
    """The table with its row numbers, and what one pass over it told about each column."""

    frame: pl.LazyFrame
    schema: Mapping[str, pl.DataType]
    rows: int
    missing: Mapping[str, int]
    infinite: Mapping[str, int]
    constant: Mapping[str, bool]


def compute_statistics(table: pl.LazyFrame) -> TableStatistics:
    """Read the table once, by streaming, for what the checks ask about every column."""
    schema = {name: dtype for name, dtype in table.collect_schema().items() if name != BAD_CELLS}
    floats = [name for name, dtype in schema.items() if dtype.is_float()]
    facts: dict[Any, pl.Expr] = {"rows": pl.len()}
    facts |= {("missing", name): missing_expr(name, dtype).sum() for name, dtype in schema.items()}
    facts |= {("infinite", name): pl.col(name).is_infinite().sum() for name in floats}
    facts |= {("constant", name): (pl.col(name).min() == pl.col(name).max()).fill_null(False) for name in schema}
    row = aggregate(table.select(expr.alias(str(position)) for position, expr in enumerate(facts.values()))).row(0)
    found = dict(zip(facts, row, strict=True))
    by_kind = {
        kind: {name: found[kind, name] for name in schema if (kind, name) in found}
        for kind in ("missing", "infinite", "constant")
    }
    return TableStatistics(frame=table.with_row_index(ROW), schema=schema, rows=found["rows"], **by_kind)


def violation_result(violation: RuleViolation, rows: int, severity: Severity) -> CheckResult:
    """The finding for a rule that single cells break."""
    detail = f"none of {rows} rows breaks the rule"
    if violation.count:
        examples = ", ".join(f"{format_value(value)} (row {row})" for value, row in violation.examples)
        detail = f"{violation.reason} in {violation.count} of {rows} rows: {examples}. {SEVERITY_ADVICE[severity]}"
    return CheckResult(
        check=violation.check,
        column=violation.column,
        severity=severity,
        passed=violation.count == 0,
        detail=detail,
        value=violation.count,
        limit=violation.limit,
        rows=violation.count,
        positions=pl.concat(violation.positions) if violation.positions else None,
        reason=violation.reason,
    )


def format_value(value: Any) -> str:
    """A value as an example shows it."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def find_violations(
    known: TableStatistics, violation: RuleViolation, condition: pl.Expr, shown: str | None = None
) -> RuleViolation:
    """Fill in the rows where a condition holds; examples show the column `shown`, by default the violation's own."""
    broken = known.frame.filter(condition)
    violation.examples += aggregate(broken.select(shown or violation.column, ROW).head(EXAMPLES)).rows()
    violation.positions.append(aggregate(broken.select(ROW))[ROW])
    return violation
