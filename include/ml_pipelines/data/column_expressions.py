"""Column names as polars expressions, and the columns that the table steps add.

Polars reads a name such as `^income$` or `*` as a pattern that stands for other columns. :func:`column` does not.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import polars as pl
import polars.selectors as cs

from ml_pipelines.errors import DataError

__all__ = [
    "BAD_CELLS",
    "REASON",
    "ROW",
    "check_reserved_names",
    "check_row_count",
    "column",
    "missing_cell",
    "missing_column_error",
]

BAD_CELLS = "_bad_cells"
"""The cells of a row that are not of the declared type; see :mod:`ml_pipelines.data.bad_cells`."""
ROW = "_row"
"""The position of a row in the table, from 0."""
REASON = "_reason"
"""Why a row is in quarantine."""

_RESERVED = (BAD_CELLS, ROW, REASON)


def column(name: str) -> pl.Expr:
    """Return the column of exactly this name."""
    return cs.by_name(name).as_expr()


def missing_cell(name: str, dtype: pl.DataType) -> pl.Expr:
    """Return whether a cell is null or, in a float column, NaN."""
    cell = column(name)
    return cell.is_null() | cell.is_nan().fill_null(True) if dtype.is_float() else cell.is_null()


def check_reserved_names(names: Iterable[str]) -> None:
    """Check that no column of the data has a name that the table steps use.

    Raises:
        DataError: a name is reserved.
    """
    if reserved := [name for name in names if name in _RESERVED]:
        raise DataError(
            f"the column name {reserved[0]!r} is reserved",
            expected=f"names other than {', '.join(_RESERVED)}",
            fix="rename the column in the data",
        )


def check_row_count(rows: int, expected: int, *, where: str) -> None:
    """Check that a reader returned every row.

    Args:
        rows: number of rows that it returned.
        expected: number of rows, as another reader counted them.
        where: the data or the artifact.

    Raises:
        DataError: the numbers differ.
    """
    if rows != expected:
        raise DataError(
            "the number of rows differs between two readers of the same data",
            where=where,
            expected=f"{expected} rows",
            got=f"{rows} rows",
            fix="write the data again, for example as Parquet; please report the case with an example",
        )


def missing_column_error(name: str, role: str, columns: Iterable[str], *, where: str = "") -> DataError:
    """Return the error for a column that the data lacks. It lists the columns and suggests the closest name.

    Args:
        name: of the missing column.
        role: of the column, such as `target`.
        columns: names of the columns in the data.
        where: the data or the key of the declaration.
    """
    names = list(columns)
    similar = difflib.get_close_matches(name, names, 1)
    return DataError(
        f"the {role} {name!r} is not in the data",
        where=where,
        expected=f"a column called {name!r}",
        got=", ".join(names),
        fix=f"did you mean {similar[0]!r}?" if similar else "correct the name in the declaration or add the column",
    )
