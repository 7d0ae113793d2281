"""Statistics of each column of a table, in one streaming pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from ml_pipelines.data.column_expressions import BAD_CELLS, ROW, check_row_count, column, missing_cell
from ml_pipelines.data.rule_violations import MAX_EXAMPLES, RuleViolation
from ml_pipelines.data.streaming import aggregate, count_rows

__all__ = ["TableStatistics", "compute_statistics", "find_violations"]


@dataclass(frozen=True, slots=True)
class TableStatistics:
    """A table with its row numbers, and statistics of each column.

    Attributes:
        frame: the table with the column `_row`.
        schema: types by column, without the columns that the steps add.
        rows: number of rows.
        missing: number of missing cells, by column.
        infinite: number of infinite cells, by column of floats.
        constant: whether all values are equal, by column.
    """

    frame: pl.LazyFrame
    schema: Mapping[str, pl.DataType]
    rows: int
    missing: Mapping[str, int]
    infinite: Mapping[str, int]
    constant: Mapping[str, bool]

    def missing_cell(self, name: str) -> pl.Expr:
        """Return whether a cell of a column is missing."""
        return missing_cell(name, self.schema[name])

    @property
    def has_bad_cells(self) -> bool:
        """Whether ingest marked cells that are not of the declared type."""
        return BAD_CELLS in self.frame.collect_schema()


def compute_statistics(table: pl.LazyFrame) -> TableStatistics:
    """Compute the statistics of a table, in the memory of its chunks.

    Raises:
        DataError: the pass over the rows returned another number of rows than the table has.
    """
    schema = {name: dtype for name, dtype in table.collect_schema().items() if name != BAD_CELLS}
    floats = [name for name, dtype in schema.items() if dtype.is_float()]
    constant = {name: (column(name).min() == column(name).max()).fill_null(False) for name in schema}
    # An empty table has no missing cells, and a sum of no cells is 0.
    missing = {name: missing_cell(name, dtype).sum() for name, dtype in schema.items()}
    infinite = {name: column(name).is_infinite().sum() for name in floats}
    expressions = [pl.len(), *missing.values(), *infinite.values(), *constant.values()]
    numbered = (expression.alias(str(position)) for position, expression in enumerate(expressions))
    rows, *values = aggregate(table.select(numbered)).row(0)
    check_row_count(rows, count_rows(table), where="table")
    counts = iter(values)
    return TableStatistics(
        frame=table.with_row_index(ROW),
        schema=schema,
        rows=rows,
        missing={name: next(counts) for name in missing},
        infinite={name: next(counts) for name in infinite},
        constant={name: next(counts) for name in constant},
    )


def find_violations(
    statistics: TableStatistics, violation: RuleViolation, condition: pl.Expr, example: pl.Expr | None = None
) -> RuleViolation:
    """Add the rows where a condition holds to a rule.

    Args:
        statistics: of the table.
        violation: the rule.
        condition: whether a row breaks the rule.
        example: what the examples show, by default the cell of the rule's column.
    """
    broken = statistics.frame.filter(condition)
    shown = (column(violation.column) if example is None else example).alias("example")
    violation.examples += aggregate(broken.select(shown, ROW).head(MAX_EXAMPLES)).rows()
    violation.positions.append(aggregate(broken.select(ROW))[ROW])
    return violation
