"""Check the quality of a table: one result for each rule of the declaration, and the rows that go to quarantine.

Pandera checks single cells (:mod:`ml_pipelines.data.cell_checks`); streaming aggregates check whole columns. Rows are
numbered from 0 in the order of the table. This step changes no row; preprocess removes the flagged ones.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from ml_pipelines._utils.yaml_quoting import quote_yaml
from ml_pipelines.contracts import JsonValue
from ml_pipelines.data.bad_cells import bad_cell_text, has_bad_cell, type_reason
from ml_pipelines.data.canonical_keys import inexact_key
from ml_pipelines.data.cell_checks import check_cells
from ml_pipelines.data.check_results import CheckResult, QualityReport
from ml_pipelines.data.class_labels import count_labels
from ml_pipelines.data.column_expressions import ROW, column
from ml_pipelines.data.column_findings import find_column_findings
from ml_pipelines.data.duplicate_keys import find_duplicate_keys
from ml_pipelines.data.label_checks import check_labels, check_numbers
from ml_pipelines.data.leakage import MAX_SAMPLE_ROWS, measure_leakage
from ml_pipelines.data.leakage_results import leakage_results
from ml_pipelines.data.rule_violations import (
    SEVERITY_ADVICE,
    CheckOutcome,
    RuleViolation,
    violation_outcome,
)
from ml_pipelines.data.streaming import aggregate
from ml_pipelines.data.table_statistics import TableStatistics, compute_statistics, find_violations
from ml_pipelines.pipeline.step import StepOutput
from ml_pipelines.pipeline.step_parameters import CheckQualityParameters
from ml_pipelines.spec.checks import Column, Severity

__all__ = ["check_quality"]


def check_quality(*, table: pl.LazyFrame, parameters: CheckQualityParameters, seed: int) -> StepOutput:
    """Check a table against its declaration.

    Args:
        table: typed columns, as ingest returns them.
        parameters: the declared columns and checks.
        seed: not used; the sample for the leakage check is taken by row number.

    Returns:
        `report`: a :class:`~ml_pipelines.data.check_results.QualityReport`. `flagged`: `row` and `reason` of the rows
        that go to quarantine, one line a row. Values: `verdict` (`passed` or `stopped`), `rows`, `failed`, `held`
        and `warnings` (names of checks), `findings`, `quarantined`, and `defaults` that were derived from the
        declaration.

    Raises:
        DataError: a declared rule can't be applied to its column.
        UserCodeError: a custom check fails.
    """
    statistics = compute_statistics(table)
    outcomes = [*_table_checks(statistics, parameters), *_column_checks(statistics, parameters)]
    outcomes += _custom(statistics, parameters)
    flagged = _flagged(outcomes)
    quarantined = aggregate(flagged.select(pl.len())).item()
    limit = parameters.checks.max_quarantined
    results = [
        *(outcome.result for outcome in outcomes),
        *_target(statistics, parameters, flagged),
        _quarantine_share(quarantined, statistics.rows, limit),
    ]
    failed = any(not result.passed and result.severity == "error" for result in results)
    report = QualityReport(
        verdict="stopped" if failed else "passed",
        rows=statistics.rows,
        quarantined=quarantined,
        checks=tuple(results),
    )
    values: dict[str, JsonValue] = {
        "verdict": report.verdict,
        "rows": report.rows,
        "quarantined": report.quarantined,
        "failed": [check.name for check in report.failures],
        "held": [check.name for check in report.holds],
        "warnings": [check.name for check in report.warnings],
        "findings": [finding.model_dump(mode="json") for finding in report.findings],
    }
    if parameters.derived:
        values["defaults"] = {**parameters.derived}
    return StepOutput(outputs={"report": report.model_dump(mode="json"), "flagged": flagged}, values=values)


def _table_checks(statistics: TableStatistics, parameters: CheckQualityParameters) -> Iterator[CheckOutcome]:
    yield CheckOutcome(_row_count(statistics, parameters))
    if parameters.key is not None:
        yield _missing_keys(statistics, parameters, parameters.key)
        yield _duplicate_keys(statistics, parameters, parameters.key)
        yield from _inexact_keys(statistics, parameters.key)
    yield from _infinite(statistics, parameters)
    about_columns = find_column_findings(
        statistics.frame.drop(ROW),
        statistics.schema,
        roles=(parameters.key, parameters.split.group, parameters.target),
        declared=parameters.columns,
        split=parameters.split,
    )
    for result in [*_constant(statistics, parameters), *_leakage(statistics, parameters), *about_columns]:
        yield CheckOutcome(result)


def _column_checks(statistics: TableStatistics, parameters: CheckQualityParameters) -> Iterator[CheckOutcome]:
    yield from _types(statistics, parameters)
    for name in statistics.missing:
        yield _missing(name, statistics, parameters)
    for violation in check_cells(statistics.frame, parameters.columns):
        yield violation_outcome(violation, statistics.rows, parameters.columns[violation.column].on_fail)


def _custom(statistics: TableStatistics, parameters: CheckQualityParameters) -> list[CheckOutcome]:
    if not parameters.checks.custom:
        return []
    # Imported here, because scikit-learn takes a second to import.
    from ml_pipelines.modeling.custom_checks import custom_outcomes

    return [*custom_outcomes(statistics.frame, parameters.checks.custom)]


def _types(statistics: TableStatistics, parameters: CheckQualityParameters) -> Iterator[CheckOutcome]:
    for name, declared in parameters.columns.items():
        violation = RuleViolation("type", name, type_reason(name, declared.type), declared.type)
        if statistics.has_bad_cells:
            find_violations(statistics, violation, has_bad_cell(name), bad_cell_text(name))
        yield violation_outcome(violation, statistics.rows, declared.on_fail)


def _missing(name: str, statistics: TableStatistics, parameters: CheckQualityParameters) -> CheckOutcome:
    count, rows = statistics.missing[name], statistics.rows
    share, empty = count / max(rows, 1), count == rows
    limit, severity = _missing_limit(parameters.columns.get(name), parameters)
    if empty and limit < 1:
        severity = "error"
    passed = share <= limit
    detail = f"{name} is missing in {count} of {rows} rows ({share:.1%}); at most {limit:.1%} may be"
    ignorable = empty and name not in (parameters.target, parameters.key)
    remedy = "Add it to `data.ignore`, or set `max_missing: 1`." if ignorable else SEVERITY_ADVICE[severity]
    result = CheckResult(
        check="missing",
        column=name,
        severity=severity,
        passed=passed,
        detail=detail,
        remedy="" if passed else remedy,
        value=share,
        limit=limit,
        rows=count,
    )
    flags = not passed and severity == "quarantine"
    return CheckOutcome(result, _missing_rows(name, statistics) if flags else None, f"{name} is missing")


def _missing_limit(declared: Column | None, parameters: CheckQualityParameters) -> tuple[float, Severity]:
    """Return the limit for the share of missing cells, and its severity: the column's, or that of all columns."""
    if declared is not None and declared.max_missing is not None:
        return declared.max_missing, declared.on_fail
    return parameters.checks.missing.max_share, parameters.checks.missing.on_fail


def _missing_rows(name: str, statistics: TableStatistics) -> pl.Series:
    """Return the rows without a value, except for bad cells, which have their own reason."""
    condition = statistics.missing_cell(name)
    if statistics.has_bad_cells:
        condition &= ~has_bad_cell(name)
    return aggregate(statistics.frame.filter(condition).select(ROW))[ROW]


def _row_count(statistics: TableStatistics, parameters: CheckQualityParameters) -> CheckResult:
    check, rows = parameters.checks.rows, statistics.rows
    too_few, too_many = rows < check.min, check.max is not None and rows > check.max
    upper = f" and at most {check.max}" if check.max is not None else ""
    detail = f"there are {rows} rows; expected are at least {check.min}{upper}"
    cause = "cut off" if too_few else "delivered twice"
    remedy = f"Check whether the delivery was {cause}; if not, change `checks.rows`." if too_few or too_many else ""
    return CheckResult(
        check="rows",
        column=None,
        severity=check.on_fail,
        passed=not (too_few or too_many),
        detail=detail,
        remedy=remedy,
        value=rows,
        limit=check.max if too_many else check.min,
    )


def _missing_keys(statistics: TableStatistics, parameters: CheckQualityParameters, key: str) -> CheckOutcome:
    violation = RuleViolation("missing_keys", key, f"{key} is missing")
    if statistics.missing[key]:
        find_violations(statistics, violation, statistics.missing_cell(key))
    return violation_outcome(violation, statistics.rows, parameters.checks.duplicate_keys.on_fail)


def _duplicate_keys(statistics: TableStatistics, parameters: CheckQualityParameters, key: str) -> CheckOutcome:
    violation = RuleViolation("duplicate_keys", key, f"{key} occurred before")
    for rows in find_duplicate_keys(statistics.frame, key, statistics.rows):
        violation.add(rows)
    return violation_outcome(violation, statistics.rows, parameters.checks.duplicate_keys.on_fail)


def _inexact_keys(statistics: TableStatistics, key: str) -> Iterator[CheckOutcome]:
    """Check a key of floats, which the source has as integers or text: large ones have lost their last digits."""
    if not statistics.schema[key].is_float():
        return
    violation = RuleViolation("inexact_keys", key, f"{key} is a float that may stand for several whole numbers")
    yield violation_outcome(find_violations(statistics, violation, inexact_key(key)), statistics.rows, "error")


def _infinite(statistics: TableStatistics, parameters: CheckQualityParameters) -> Iterator[CheckOutcome]:
    severity = parameters.checks.infinite.on_fail
    names = [name for name, count in statistics.infinite.items() if count]
    for name in names:
        violation = RuleViolation("infinite", name, f"{name} is infinite")
        find_violations(statistics, violation, column(name).is_infinite())
        yield violation_outcome(violation, statistics.rows, severity)
    if not names:
        result = CheckResult(
            check="infinite",
            column=None,
            severity=severity,
            passed=True,
            detail="no number is infinite",
            value=0,
            rows=0,
        )
        yield CheckOutcome(result)


def _constant(statistics: TableStatistics, parameters: CheckQualityParameters) -> Iterator[CheckResult]:
    names = [name for name, constant in statistics.constant.items() if constant and name != parameters.target]
    for name in names:
        detail = f"{name} has a single value, so a model can't learn from it"
        remedy = f"Add it to `data.ignore`: `ignore: [{quote_yaml(name)}]`."
        yield CheckResult(
            check="constant",
            column=name,
            severity="warn",
            passed=False,
            detail=detail,
            remedy=remedy,
            fix={"ignore": [name]},
        )
    if not names:
        detail = "every column has at least two values"
        yield CheckResult(check="constant", column=None, severity="warn", passed=True, detail=detail)


def _target(
    statistics: TableStatistics, parameters: CheckQualityParameters, flagged: pl.LazyFrame
) -> Iterator[CheckResult]:
    """Check the target of the rows that are not in quarantine."""
    target, removed = parameters.target, aggregate(flagged.select("row"))["row"]
    kept = statistics.frame.filter(~pl.col(ROW).is_in(removed.implode())) if len(removed) else statistics.frame
    if parameters.task == "regression":
        yield check_numbers(kept, target)
    else:
        yield from check_labels(count_labels(kept, target), target, parameters.positive, parameters.checks.labels)


def _is_number(statistics: TableStatistics, target: str) -> bool:
    return statistics.schema[target].is_numeric() or statistics.schema[target] == pl.Boolean


def _leakage(statistics: TableStatistics, parameters: CheckQualityParameters) -> Iterator[CheckResult]:
    target = parameters.target
    if parameters.task == "regression" and not _is_number(statistics, target):
        return iter(())
    columns = [column(name) for name in statistics.schema if name not in (parameters.key, parameters.split.group)]
    labelled = statistics.frame.filter(~statistics.missing_cell(target) & _in_sample(statistics.rows))
    leakage = measure_leakage(aggregate(labelled.select(columns)), target, parameters.task)
    return leakage_results(leakage, target, parameters.task, parameters.checks.leakage)


def _in_sample(rows: int) -> pl.Expr:
    """Return whether a row is in the sample: by its number, so always the same, and spread without a period."""
    if rows <= MAX_SAMPLE_ROWS:
        return pl.lit(True)
    spread = pl.col(ROW).cast(pl.UInt64) * pl.lit(0x9E3779B97F4A7C15, dtype=pl.UInt64)
    return spread.cast(pl.Float64) < 2.0**64 * (MAX_SAMPLE_ROWS / rows)


def _quarantine_share(quarantined: int, rows: int, limit: float) -> CheckResult:
    share = quarantined / max(rows, 1)
    detail = f"{quarantined} of {rows} rows ({share:.2%}) go to quarantine; at most {limit:.2%} may"
    remedy = "See the quarantine rules of the report: either the delivery is bad or a rule is too strict."
    return CheckResult(
        check="max_quarantined",
        column=None,
        severity="error",
        passed=share <= limit,
        detail=detail,
        remedy="" if share <= limit else remedy,
        value=share,
        limit=limit,
        rows=quarantined,
    )


def _flagged(outcomes: list[CheckOutcome]) -> pl.LazyFrame:
    """Return one line for each row that goes to quarantine, in the order of the table."""
    reasons = [
        pl.LazyFrame({"row": outcome.positions}).with_columns(pl.lit(outcome.reason).alias("reason"))
        for outcome in outcomes
        if outcome.result.severity == "quarantine" and outcome.positions is not None
    ]
    empty = pl.LazyFrame(schema={"row": pl.UInt32, "reason": pl.String})
    by_row = pl.concat([empty, *reasons]).unique(maintain_order=True).group_by("row", maintain_order=True)
    return by_row.agg(pl.col("reason").str.join("; ")).sort("row")
