"""The quality gate: every rule of the declaration, what it found, and the rows that it sets aside.

Pandera checks single cells (:mod:`ml_pipelines.data.cell_checks`); streaming aggregates check whole columns. Rows are
numbered from 0 in the order of the table. Nothing is changed here; preprocess takes the flagged rows out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from ml_pipelines.data.cell_checks import Breach, check_cells
from ml_pipelines.data.check_results import ADVICE, Finding, Survey, broken_by_cells, find, short, survey
from ml_pipelines.data.duplicate_keys import repeated
from ml_pipelines.data.leakage import SAMPLED_ROWS, strengths
from ml_pipelines.data.streaming import ROW, UNPARSED, aggregate, is_missing
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
    known = survey(table)
    findings = [*_table_checks(known, parameters), *_cell_checks(known, parameters)]
    flagged = _flagged(findings)
    quarantined = aggregate(flagged.select(pl.len())).item()
    findings.append(_quarantine_check(quarantined, known.rows, parameters.checks.max_quarantined))
    failed = [finding.name for finding in findings if not finding.passed and finding.severity == "error"]
    warnings = [finding.name for finding in findings if not finding.passed and finding.severity == "warn"]
    summary: dict[str, Any] = {
        "verdict": "stopped" if failed else "passed",
        "rows": known.rows,
        "quarantined": quarantined,
    }
    report = {**summary, "checks": [finding.as_json() for finding in findings]}
    values = {**summary, "failed": failed, "warnings": warnings}
    return StepOutput(outputs={"report": report, "flagged": flagged}, values=values)


def _table_checks(known: Survey, parameters: CheckQualityParameters) -> Iterator[Finding]:
    yield _row_count(known, parameters)
    if parameters.key is not None:
        yield _missing_keys(known, parameters, parameters.key)
        yield _duplicate_keys(known, parameters, parameters.key)
    yield from _labels(known, parameters)
    yield from _infinite(known, parameters)
    yield from _constant(known, parameters)
    yield from _leakage(known, parameters)


def _cell_checks(known: Survey, parameters: CheckQualityParameters) -> Iterator[Finding]:
    yield from _types(known, parameters)
    yield from _missing(known, parameters)
    for breach in check_cells(known.frame, parameters.columns):
        yield broken_by_cells(breach, known.rows, parameters.columns[breach.column].on_fail)


def _unparsed(column: str) -> pl.Expr:
    """Whether ingest could not read the cell of a column."""
    return pl.col(UNPARSED).str.contains(f"(?:^|; ){pl.escape_regex(column)}: '").fill_null(False)


def _types(known: Survey, parameters: CheckQualityParameters) -> Iterator[Finding]:
    some = UNPARSED in known.frame.collect_schema()
    for name, column in parameters.columns.items():
        noun = f"an {column.type}" if column.type == "integer" else f"a {column.type}"
        breach = Breach("type", name, f"{name} is not {noun}", column.type)
        if some:
            find(known, breach, _unparsed(name), UNPARSED)
        yield broken_by_cells(breach, known.rows, column.on_fail)


def _missing(known: Survey, parameters: CheckQualityParameters) -> Iterator[Finding]:
    some_unparsed = UNPARSED in known.frame.collect_schema()
    for name, count in known.missing.items():
        column = parameters.columns.get(name)
        declared = column.max_missing if column else None
        limit = parameters.checks.missing.max_share if declared is None else declared
        severity = column.on_fail if column and declared is not None else parameters.checks.missing.on_fail
        share, empty = count / max(known.rows, 1), count == known.rows
        if empty and limit < 1:
            severity = "error"
        passed = share <= limit
        detail = f"{name} is missing in {count} of {known.rows} rows ({share:.1%}); at most {limit:.1%} may be"
        positions = None
        if not passed and severity == "quarantine":
            # A cell that could not be read has its own reason.
            condition = is_missing(name, known.schema[name]) & (~_unparsed(name) if some_unparsed else pl.lit(True))
            positions = find(known, Breach("missing", name, ""), condition).positions[0]
        if not passed:
            needless = empty and name not in (parameters.target, parameters.key)
            detail += ". Drop it with data.ignore, or set max_missing: 1." if needless else f". {ADVICE[severity]}"
        yield Finding(
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


def _row_count(known: Survey, parameters: CheckQualityParameters) -> Finding:
    check = parameters.checks.rows
    most = f" and at most {check.max}" if check.max is not None else ""
    few, many = known.rows < check.min, check.max is not None and known.rows > check.max
    detail = f"there are {known.rows} rows; expected are at least {check.min}{most}"
    if few or many:
        detail += f". {'Was the delivery cut off?' if few else 'Was it delivered twice?'}"
    return Finding(
        check="rows",
        column=None,
        severity=check.on_fail,
        passed=not (few or many),
        detail=detail,
        value=known.rows,
        limit=check.max if many else check.min,
    )


def _missing_keys(known: Survey, parameters: CheckQualityParameters, key: str) -> Finding:
    breach = Breach("missing_keys", key, f"{key} is missing")
    if known.missing[key]:
        find(known, breach, is_missing(key, known.schema[key]))
    return broken_by_cells(breach, known.rows, parameters.checks.duplicate_keys.on_fail)


def _duplicate_keys(known: Survey, parameters: CheckQualityParameters, key: str) -> Finding:
    breach = Breach("duplicate_keys", key, f"{key} occurred before")
    for rows in repeated(known.frame, key, known.rows):
        breach.add(rows)
    return broken_by_cells(breach, known.rows, parameters.checks.duplicate_keys.on_fail)


def _infinite(known: Survey, parameters: CheckQualityParameters) -> Iterator[Finding]:
    severity = parameters.checks.infinite.on_fail
    for name in (name for name, count in known.infinite.items() if count):
        breach = Breach("infinite", name, f"{name} is infinite")
        yield broken_by_cells(find(known, breach, pl.col(name).is_infinite()), known.rows, severity)
    if not any(known.infinite.values()):
        yield Finding("infinite", None, severity, True, "no number is infinite", 0, rows=0)


def _constant(known: Survey, parameters: CheckQualityParameters) -> Iterator[Finding]:
    names = [name for name, constant in known.constant.items() if constant and name != parameters.target]
    for name in names:
        detail = f"{name} has one value only, so nothing can be learned from it. Drop it with data.ignore."
        yield Finding("constant", name, "warn", False, detail)
    if not names:
        yield Finding("constant", None, "warn", True, "every column has at least two values")


def _labels(known: Survey, parameters: CheckQualityParameters) -> Iterator[Finding]:
    target = parameters.target
    if parameters.task == "regression":
        varied = known.missing[target] < known.rows and not known.constant[target]
        text = "varies" if varied else f"has fewer than two values: {_MEND_LABELS}"
        if varied and not _is_number(known, target):
            varied, text = False, f"is of type {known.schema[target]}: {_MEND_NUMBERS}"
        yield Finding("labels", target, "error", varied, f"the target {target} {text}")
        return
    labels = known.frame.filter(~is_missing(target, known.schema[target])).select(pl.col(target).alias("label"))
    counts = aggregate(labels.group_by("label").len().sort("len", "label"))
    if counts.height < 2:
        only = f"only the class {short(counts[0, 0])}" if counts.height else "no class"
        text = f"the target {target} has {only}: {_MEND_LABELS}"
        yield Finding("labels", target, "error", False, text, counts.height, 2)
        return
    check = parameters.checks.labels
    share = counts[0, "len"] / counts["len"].sum()
    detail = (
        f"the rarest of {counts.height} classes is {short(counts[0, 0])} with {counts[0, 'len']} rows ({share:.2%}); "
        f"expected are at least {check.min_share:.2%}"
    )
    if share < check.min_share:
        detail += ". Gather more of it, merge it into another class, or lower checks.labels.min_share."
    yield Finding("labels", target, check.on_fail, share >= check.min_share, detail, share, check.min_share)


def _is_number(known: Survey, target: str) -> bool:
    return known.schema[target].is_numeric() or known.schema[target] == pl.Boolean


def _leakage(known: Survey, parameters: CheckQualityParameters) -> Iterator[Finding]:
    check, target = parameters.checks.leakage, parameters.target
    if parameters.task == "regression" and not _is_number(known, target):
        return
    columns = [name for name in known.schema if name != parameters.key]
    labelled = known.frame.filter(~is_missing(target, known.schema[target]) & _sampled(known.rows))
    found = strengths(aggregate(labelled.select(columns)), target, parameters.task)
    leaking = {name: strength for name, strength in found.items() if strength >= check.max_auc}
    for name, strength in leaking.items():
        detail = (
            f"{name} alone tells {target} with a strength of {strength:.3f}: it may be the answer in other words, or "
            "known only afterwards. If so, add it to data.ignore."
        )
        yield Finding("leakage", name, check.on_fail, False, detail, strength, check.max_auc)
    if not leaking:
        best = max(found, key=found.__getitem__, default=None)
        detail = f"the strongest single column is {best} with {found[best]:.3f}" if best else "too few rows to tell"
        yield Finding("leakage", None, check.on_fail, True, detail, found[best] if best else None, check.max_auc)


def _sampled(rows: int) -> pl.Expr:
    """A sample of the rows by number: the same rows each time, spread over the table without a period."""
    if rows <= SAMPLED_ROWS:
        return pl.lit(True)
    spread = pl.col(ROW).cast(pl.UInt64) * pl.lit(0x9E3779B97F4A7C15, dtype=pl.UInt64)
    return spread.cast(pl.Float64) < 2.0**64 * (SAMPLED_ROWS / rows)


def _quarantine_check(quarantined: int, rows: int, limit: float) -> Finding:
    share = quarantined / max(rows, 1)
    detail = f"{quarantined} of {rows} rows ({share:.2%}) are set aside; at most {limit:.2%} may be"
    if share > limit:
        detail += ". Look at the quarantine rules above: either the delivery is bad or a rule is too strict."
    return Finding("max_quarantined", None, "error", share <= limit, detail, share, limit, quarantined)


def _flagged(findings: list[Finding]) -> pl.LazyFrame:
    """One line for each row that a rule sets aside, in the order of the table."""
    pieces = [
        pl.LazyFrame({"row": finding.positions}).with_columns(pl.lit(finding.reason).alias("reason"))
        for finding in findings
        if finding.severity == "quarantine" and finding.positions is not None
    ]
    every = pl.concat([pl.LazyFrame(schema={"row": pl.UInt32, "reason": pl.String}), *pieces])
    by_row = every.unique(maintain_order=True).group_by("row", maintain_order=True)
    return by_row.agg(pl.col("reason").str.join("; ")).sort("row")
