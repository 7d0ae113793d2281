"""Check the cells of single columns against the declared rules, with pandera, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandera.polars as pa
import polars as pl
from pandera.errors import SchemaError, SchemaErrors

from ml_pipelines.data.column_expressions import ROW, column
from ml_pipelines.data.rule_violations import RuleViolation
from ml_pipelines.errors import DataError
from ml_pipelines.spec.checks import Column

__all__ = ["BATCH_ROWS", "check_cells"]

BATCH_ROWS = 250_000
"""How many rows pandera checks at a time."""

_Rules = list[tuple[RuleViolation, pa.Check]]


def check_cells(frame: pl.LazyFrame, columns: Mapping[str, Column]) -> list[RuleViolation]:
    """Check every cell of the declared columns against `min`, `max`, `above`, `below`, `allowed` and `pattern`.

    Missing cells break no rule. Memory is that of one batch, and of the positions of the cells that break a rule.

    Args:
        frame: the table with its row numbers in the column `_row`.
        columns: the declared columns.

    Returns:
        One entry for each rule, with or without violations.

    Raises:
        DataError: a rule can't be applied to its column, such as an invalid regular expression.
    """
    schema = frame.collect_schema()
    of_columns = {name: _rules(name, declared, schema[name]) for name, declared in columns.items()}
    # Pandera takes some column names for patterns, so it sees the columns as "0", "1", ...
    numbered = {str(position): (name, rules) for position, (name, rules) in enumerate(of_columns.items()) if rules}
    if numbered:
        checked = pa.DataFrameSchema(
            {
                number: pa.Column(checks=[check for _, check in rules], nullable=True)
                for number, (_, rules) in numbered.items()
            }
        )
        violations = {number: [violation for violation, _ in rules] for number, (_, rules) in numbered.items()}
        cells = frame.select(ROW, *(_cells(name, schema[name]).alias(number) for number, (name, _) in numbered.items()))
        for batch in cells.collect_batches(chunk_size=BATCH_ROWS, engine="streaming"):
            _check_batch(batch, checked, violations)
    return [violation for rules in of_columns.values() for violation, _ in rules]


def _rules(name: str, declared: Column, dtype: pl.DataType) -> _Rules:
    limits: list[tuple[str, float | None, str, Callable[..., pa.Check]]] = [
        ("min", declared.min, "at least", pa.Check.ge),
        ("max", declared.max, "at most", pa.Check.le),
        ("above", declared.above, "above", pa.Check.gt),
        ("below", declared.below, "below", pa.Check.lt),
    ]
    rules = [
        (RuleViolation(check, name, f"{name} is not {words} {limit:g}", limit), make(limit))
        for check, limit, words, make in limits
        if limit is not None
    ]
    if declared.allowed is not None:
        reason = f"{name} is not one of {', '.join(str(value) for value in declared.allowed)}"
        check = pa.Check.isin(_allowed(declared.allowed, dtype))
        rules.append((RuleViolation("allowed", name, reason, list(declared.allowed)), check))
    if declared.pattern is not None:
        # Not pandera's str_matches, which compiles the pattern with Python's `re`, although polars matches it.
        whole = f"^(?:{declared.pattern})$"
        check = pa.Check(lambda data: data.lazyframe.select(pl.col(data.key).str.contains(whole)))
        reason = f"{name} does not match {declared.pattern}"
        rules.append((RuleViolation("pattern", name, reason, declared.pattern), check))
    return rules


def _allowed(values: Sequence[str | float | bool], dtype: pl.DataType) -> list[object]:
    """Return the allowed values as the column's type, without those that the type can't hold."""
    series = pl.Series(values, strict=False)
    if dtype.is_temporal():
        series = series.cast(pl.String).str.to_date("%Y-%m-%d", strict=False)
    return series.cast(dtype, strict=False).drop_nulls().to_list()


def _cells(name: str, dtype: pl.DataType) -> pl.Expr:
    return column(name).fill_nan(None) if dtype.is_float() else column(name)


def _check_batch(
    batch: pl.DataFrame, schema: pa.DataFrameSchema, violations: Mapping[str, list[RuleViolation]]
) -> None:
    try:
        schema.validate(batch, lazy=True)
    except SchemaErrors as exc:
        for error in exc.schema_errors:
            number = str(error.schema.name)
            violation = violations[number][error.check_index]
            if error.check_output is None:
                raise _inapplicable_rule(violation, error) from exc
            holds = error.check_output.to_series()
            violation.add(batch.select(number, ROW).filter(~holds))


def _inapplicable_rule(violation: RuleViolation, error: SchemaError) -> DataError:
    return DataError(
        f"the rule {violation.check!r} can't be applied to the column {violation.column!r}",
        where=f"data.columns.{violation.column}.{violation.check}",
        got=f"{violation.limit!r}: {' '.join(str(error).split())[:200]}",
        fix="correct the rule; a pattern is a regular expression as Rust has them, without look-around",
    )
