"""The rules that a declaration sets for the cells of single columns, checked by pandera batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandera.polars as pa
import polars as pl
from pandera.errors import SchemaErrors

from ml_pipelines.data.streaming import ROW
from ml_pipelines.errors import DataError
from ml_pipelines.spec.training import Column

__all__ = ["EXAMPLES", "RuleViolation", "check_cells"]

EXAMPLES = 3
_BATCH_ROWS = 250_000


@dataclass(slots=True)
class RuleViolation:
    """A rule and the cells that break it.

    Attributes:
        check: name of the rule, as declared.
        column: which column it is about.
        reason: what is the matter with a row that breaks it.
        limit: what was declared.
        examples: value and row of the first few.
        positions: rows of all of them, in pieces.
    """

    check: str
    column: str
    reason: str
    limit: Any = None
    examples: list[tuple[Any, int]] = field(default_factory=list)
    positions: list[pl.Series] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many rows break the rule."""
        return sum(len(piece) for piece in self.positions)

    def add(self, cells: pl.DataFrame) -> None:
        """Take note of cells (value, row) that break the rule."""
        self.examples += cells.head(EXAMPLES - len(self.examples)).rows()
        self.positions.append(cells[ROW])


def check_cells(frame: pl.LazyFrame, columns: Mapping[str, Column]) -> list[RuleViolation]:
    """Check every cell of the declared columns against `min`, `max`, `above`, `below`, `allowed` and `pattern`.

    Missing cells break no rule. Memory is that of one batch, and of the positions of the cells that break a rule.

    Args:
        frame: the table with its row numbers in the column `_row`.
        columns: the declared columns.

    Returns:
        One entry a rule, also for those that hold.

    Raises:
        DataError: a rule can't be applied to its column, such as a pattern that is no regular expression.
    """
    schema = frame.collect_schema()
    rules = {name: _rules(name, column, schema[name]) for name, column in columns.items()}
    rules = {name: of_column for name, of_column in rules.items() if of_column}
    violations = {name: [violation for violation, _ in of_column] for name, of_column in rules.items()}
    if rules:
        checked = pa.DataFrameSchema(
            {name: pa.Column(checks=[rule for _, rule in rules[name]], nullable=True) for name in rules}
        )
        cells = frame.select(ROW, *(_cells(name, schema[name]) for name in rules))
        for batch in cells.collect_batches(chunk_size=_BATCH_ROWS, engine="streaming"):
            _check_batch(batch, checked, violations)
    return [violation for of_column in violations.values() for violation in of_column]


def _rules(name: str, column: Column, dtype: pl.DataType) -> list[tuple[RuleViolation, pa.Check]]:
    limits: list[tuple[str, float | None, str, Callable[..., pa.Check]]] = [
        ("min", column.min, "at least", pa.Check.ge),
        ("max", column.max, "at most", pa.Check.le),
        ("above", column.above, "above", pa.Check.gt),
        ("below", column.below, "below", pa.Check.lt),
    ]
    rules = [
        (RuleViolation(check, name, f"{name} is not {words} {limit:g}", limit), make(limit))
        for check, limit, words, make in limits
        if limit is not None
    ]
    if column.allowed is not None:
        reason = f"{name} is not one of {', '.join(str(value) for value in column.allowed)}"
        rule = pa.Check.isin(_allowed(column.allowed, dtype))
        rules.append((RuleViolation("allowed", name, reason, list(column.allowed)), rule))
    if column.pattern is not None:
        # A function, not pandera's str_matches, which would have Python's `re` judge a pattern that polars runs.
        whole = f"^(?:{column.pattern})$"
        rule = pa.Check(lambda data: data.lazyframe.select(pl.col(data.key).str.contains(whole)))
        rules.append((RuleViolation("pattern", name, f"{name} does not match {column.pattern}", column.pattern), rule))
    return rules


def _allowed(values: Sequence[Any], dtype: pl.DataType) -> list[Any]:
    """The allowed values as the column has them; what can't be one of its values is left out."""
    series = pl.Series(values, strict=False)
    if dtype.is_temporal():
        series = series.cast(pl.String).str.to_date("%Y-%m-%d", strict=False)
    return series.cast(dtype, strict=False).drop_nulls().to_list()


def _cells(name: str, dtype: pl.DataType) -> pl.Expr:
    return pl.col(name).fill_nan(None) if dtype.is_float() else pl.col(name)


def _check_batch(
    batch: pl.DataFrame, schema: pa.DataFrameSchema, violations: Mapping[str, list[RuleViolation]]
) -> None:
    try:
        schema.validate(batch, lazy=True)
    except SchemaErrors as exc:
        for error in exc.schema_errors:
            violation = violations[error.schema.name][error.check_index]
            if error.check_output is None:
                raise _not_applicable(violation, error) from exc
            holds = error.check_output.to_series()
            violation.add(batch.select(violation.column, ROW).filter(~holds))


def _not_applicable(violation: RuleViolation, error: Exception) -> DataError:
    return DataError(
        f"the rule {violation.check!r} can't be applied to the column {violation.column!r}",
        where=f"data.columns.{violation.column}.{violation.check}",
        got=f"{violation.limit!r}: {' '.join(str(error).split())[:200]}",
        fix="correct the rule; a pattern is a regular expression as Rust has them, without look-around",
    )
