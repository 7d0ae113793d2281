"""The quality gate: every rule of the declaration, what it found, and the rows that it sets aside.

Pandera checks single cells (:mod:`ml_pipelines.data.cell_checks`); streaming aggregates check whole columns. Rows are
numbered from 0 in the order of the table. Nothing is changed here; preprocess takes the flagged rows out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from ml_pipelines.data.cell_checks import RuleViolation, check_cells
from ml_pipelines.data.check_results import (
    SEVERITY_ADVICE,
    CheckResult,
    TableStatistics,
    compute_statistics,
    find_violations,
    format_value,
    violation_result,
)
from ml_pipelines.data.duplicate_keys import find_duplicate_keys
from ml_pipelines.data.leakage import MAX_SAMPLE_ROWS, leakage_strengths
from ml_pipelines.data.streaming import BAD_CELLS, ROW, aggregate, missing_expr
from ml_pipelines.pipeline.parameters import CheckQualityParameters
from ml_pipelines.pipeline.step import StepOutput

__all__ = ["check_quality"]

_MEND_LABELS = "nothing can be learned from it. Check the query or filter that made the data."
_MEND_NUMBERS = (
    "a regression learns numbers. Set model.task to classification, or declare the column a float in data.columns, "
    "which tells the cells that are none."
)


def check_quality(*, table: pl.LazyFrame, parameters: CheckQualityParameters, seed: int) -> StepOutput:
    """Check a table against its declaration.

    Args:
        table: typed columns, as ingest leaves them.
        parameters: the declared columns and checks.
        seed: not used; the sample for the leakage check is taken by row number.

    Returns:
        `report`: verdict, rows, one entry a check, rows set aside. `flagged`: `row` and `reason`, one line a row.
        Values: `verdict` (`passed` or `stopped`), `rows`, `failed` and `warnings` (names of checks), `quarantined`.

    Raises:
        DataError: a declared rule can't be applied to its column.
    """
    statistics = compute_statistics(table)
    findings = [*_table_checks(statistics, parameters), *_cell_checks(statistics, parameters)]
    flagged = _flagged(findings)
    quarantined = aggregate(flagged.select(pl.len())).item()
    findings.append(_quarantine_check(quarantined, statistics.rows, parameters.checks.max_quarantined))
    failed = [finding.name for finding in findings if not finding.passed and finding.severity == "error"]
    warnings = [finding.name for finding in findings if not finding.passed and finding.severity == "warn"]
    summary: dict[str, Any] = {
        "verdict": "stopped" if failed else "passed",
        "rows": statistics.rows,
        "quarantined": quarantined,
    }
    report = {**summary, "checks": [finding.as_json() for finding in findings]}
    values = {**summary, "failed": failed, "warnings": warnings}
    return StepOutput(outputs={"report": report, "flagged": flagged}, values=values)


def _table_checks(statistics: TableStatistics, parameters: CheckQualityParameters) -> Iterator[CheckResult]:
    yield _row_count(statistics, parameters)
    if parameters.key is not None:
        yield _missing_keys(statistics, parameters, parameters.key)
        yield _duplicate_keys(statistics, parameters, parameters.key)
    yield from _labels(statistics, parameters)
    yield from _infinite(statistics, parameters)
    yield from _constant(statistics, parameters)
    yield from _leakage(statistics, parameters)


def _cell_checks(statistics: TableStatistics, parameters: CheckQualityParameters) -> Iterator[CheckResult]:
    yield from _types(statistics, parameters)
    yield from _missing(statistics, parameters)
    for violation in check_cells(statistics.frame, parameters.columns):
        yield violation_result(violation, statistics.rows, parameters.columns[violation.column].on_fail)


def _bad_cells(column: str) -> pl.Expr:
    """Whether ingest could not read the cell of a column."""
    return pl.col(BAD_CELLS).str.contains(f"(?:^|; ){pl.escape_regex(column)}: '").fill_null(False)


def _types(statistics: TableStatistics, parameters: CheckQualityParameters) -> Iterator[CheckResult]:
    some = BAD_CELLS in statistics.frame.collect_schema()
    for name, column in parameters.columns.items():
        noun = f"an {column.type}" if column.type == "integer" else f"a {column.type}"
        violation = RuleViolation("type", name, f"{name} is not {noun}", column.type)
        if some:
            find_violations(statistics, violation, _bad_cells(name), BAD_CELLS)
        yield violation_result(violation, statistics.rows, column.on_fail)


def _missing(statistics: TableStatistics, parameters: CheckQualityParameters) -> Iterator[CheckResult]:
    some_unparsed = BAD_CELLS in statistics.frame.collect_schema()
    for name, count in statistics.missing.items():
        column = parameters.columns.get(name)
        declared = column.max_missing if column else None
        limit = parameters.checks.missing.max_share if declared is None else declared
        severity = column.on_fail if column and declared is not None else parameters.checks.missing.on_fail
        share, empty = count / max(statistics.rows, 1), count == statistics.rows
        if empty and limit < 1:
            severity = "error"
        passed = share <= limit
        detail = f"{name} is missing in {count} of {statistics.rows} rows ({share:.1%}); at most {limit:.1%} may be"
        positions = None
        if not passed and severity == "quarantine":
            # A cell that could not be read has its own reason.
            condition = missing_expr(name, statistics.schema[name]) & (
                ~_bad_cells(name) if some_unparsed else pl.lit(True)
            )
            positions = find_violations(statistics, RuleViolation("missing", name, ""), condition).positions[0]
        if not passed:
            needless = empty and name not in (parameters.target, parameters.key)
            detail += (
                ". Drop it with data.ignore, or set max_missing: 1." if needless else f". {SEVERITY_ADVICE[severity]}"
            )
        yield CheckResult(
            check="missing",
            column=name,
            severity=severity,
            passed=passed,
            detail=detail,
            value=share,
            limit=limit,
            rows=count,
            positions=positions,
            reason=f"{name} is missing",
        )


def _row_count(statistics: TableStatistics, parameters: CheckQualityParameters) -> CheckResult:
    check = parameters.checks.rows
    most = f" and at most {check.max}" if check.max is not None else ""
    few, many = statistics.rows < check.min, check.max is not None and statistics.rows > check.max
    detail = f"there are {statistics.rows} rows; expected are at least {check.min}{most}"
    if few or many:
        detail += f". {'Was the delivery cut off?' if few else 'Was it delivered twice?'}"
    return CheckResult(
        check="rows",
        column=None,
        severity=check.on_fail,
        passed=not (few or many),
        detail=detail,
        value=statistics.rows,
        limit=check.max if many else check.min,
    )


def _missing_keys(statistics: TableStatistics, parameters: CheckQualityParameters, key: str) -> CheckResult:
    violation = RuleViolation("missing_keys", key, f"{key} is missing")
    if statistics.missing[key]:
        find_violations(statistics, violation, missing_expr(key, statistics.schema[key]))
    return violation_result(violation, statistics.rows, parameters.checks.duplicate_keys.on_fail)


def _duplicate_keys(statistics: TableStatistics, parameters: CheckQualityParameters, key: str) -> CheckResult:
    violation = RuleViolation("duplicate_keys", key, f"{key} occurred before")
    for rows in find_duplicate_keys(statistics.frame, key, statistics.rows):
        violation.add(rows)
    return violation_result(violation, statistics.rows, parameters.checks.duplicate_keys.on_fail)


def _infinite(statistics: TableStatistics, parameters: CheckQualityParameters) -> Iterator[CheckResult]:
    severity = parameters.checks.infinite.on_fail
    for name in (name for name, count in statistics.infinite.items() if count):
        violation = RuleViolation("infinite", name, f"{name} is infinite")
        yield violation_result(
            find_violations(statistics, violation, pl.col(name).is_infinite()), statistics.rows, severity
        )
    if not any(statistics.infinite.values()):
        yield CheckResult("infinite", None, severity, True, "no number is infinite", 0, rows=0)


def _constant(statistics: TableStatistics, parameters: CheckQualityParameters) -> Iterator[CheckResult]:
    names = [name for name, constant in statistics.constant.items() if constant and name != parameters.target]
    for name in names:
        detail = f"{name} has one value only, so nothing can be learned from it. Drop it with data.ignore."
        yield CheckResult("constant", name, "warn", False, detail)
    if not names:
        yield CheckResult("constant", None, "warn", True, "every column has at least two values")


def _labels(statistics: TableStatistics, parameters: CheckQualityParameters) -> Iterator[CheckResult]:
    target = parameters.target
    if parameters.task == "regression":
        varied = statistics.missing[target] < statistics.rows and not statistics.constant[target]
        text = "varies" if varied else f"has fewer than two values: {_MEND_LABELS}"
        if varied and not _is_number(statistics, target):
            varied, text = False, f"is of type {statistics.schema[target]}: {_MEND_NUMBERS}"
        yield CheckResult("labels", target, "error", varied, f"the target {target} {text}")
        return
    labels = statistics.frame.filter(~missing_expr(target, statistics.schema[target])).select(
        pl.col(target).alias("label")
    )
    counts = aggregate(labels.group_by("label").len().sort("len", "label"))
    if counts.height < 2:
        only = f"only the class {format_value(counts[0, 0])}" if counts.height else "no class"
        text = f"the target {target} has {only}: {_MEND_LABELS}"
        yield CheckResult("labels", target, "error", False, text, counts.height, 2)
        return
    check = parameters.checks.labels
    share = counts[0, "len"] / counts["len"].sum()
    detail = (
        f"the rarest of {counts.height} classes is {format_value(counts[0, 0])} with {counts[0, 'len']} rows "
        f"({share:.2%}); expected are at least {check.min_share:.2%}"
    )
    if share < check.min_share:
        detail += ". Gather more of it, merge it into another class, or lower checks.labels.min_share."
    yield CheckResult("labels", target, check.on_fail, share >= check.min_share, detail, share, check.min_share)


def _is_number(statistics: TableStatistics, target: str) -> bool:
    return statistics.schema[target].is_numeric() or statistics.schema[target] == pl.Boolean


def _leakage(statistics: TableStatistics, parameters: CheckQualityParameters) -> Iterator[CheckResult]:
    check, target = parameters.checks.leakage, parameters.target
    if parameters.task == "regression" and not _is_number(statistics, target):
        return
    columns = [name for name in statistics.schema if name != parameters.key]
    labelled = statistics.frame.filter(~missing_expr(target, statistics.schema[target]) & _sampled(statistics.rows))
    found = leakage_strengths(aggregate(labelled.select(columns)), target, parameters.task)
    leaking = {name: strength for name, strength in found.items() if strength >= check.max_auc}
    for name, strength in leaking.items():
        detail = (
            f"{name} alone tells {target} with a strength of {strength:.3f}: it may be the answer in other words, or "
            "statistics only afterwards. If so, add it to data.ignore."
        )
        yield CheckResult("leakage", name, check.on_fail, False, detail, strength, check.max_auc)
    if not leaking:
        best = max(found, key=found.__getitem__, default=None)
        detail = f"the strongest single column is {best} with {found[best]:.3f}" if best else "too few rows to tell"
        yield CheckResult("leakage", None, check.on_fail, True, detail, found[best] if best else None, check.max_auc)


def _sampled(rows: int) -> pl.Expr:
    """A sample of the rows by number: the same rows each time, spread over the table without a period."""
    if rows <= MAX_SAMPLE_ROWS:
        return pl.lit(True)
    spread = pl.col(ROW).cast(pl.UInt64) * pl.lit(0x9E3779B97F4A7C15, dtype=pl.UInt64)
    return spread.cast(pl.Float64) < 2.0**64 * (MAX_SAMPLE_ROWS / rows)


def _quarantine_check(quarantined: int, rows: int, limit: float) -> CheckResult:
    share = quarantined / max(rows, 1)
    detail = f"{quarantined} of {rows} rows ({share:.2%}) are set aside; at most {limit:.2%} may be"
    if share > limit:
        detail += ". Look at the quarantine rules above: either the delivery is bad or a rule is too strict."
    return CheckResult("max_quarantined", None, "error", share <= limit, detail, share, limit, quarantined)


def _flagged(findings: list[CheckResult]) -> pl.LazyFrame:
    """One line for each row that a rule sets aside, in the order of the table."""
    pieces = [
        pl.LazyFrame({"row": finding.positions}).with_columns(pl.lit(finding.reason).alias("reason"))
        for finding in findings
        if finding.severity == "quarantine" and finding.positions is not None
    ]
    every = pl.concat([pl.LazyFrame(schema={"row": pl.UInt32, "reason": pl.String}), *pieces])
    by_row = every.unique(maintain_order=True).group_by("row", maintain_order=True)
    return by_row.agg(pl.col("reason").str.join("; ")).sort("row")
