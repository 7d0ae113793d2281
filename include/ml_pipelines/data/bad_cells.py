"""Cells that are not of the declared type, as one structured column.

Ingest writes the column :data:`~ml_pipelines.data.column_expressions.BAD_CELLS`: for each row a list of structs with
the fields `column`, `type` (the declared type) and `cell` (the text). The list is null if all cells are of their types.
No step reads names or cells out of a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from ml_pipelines.data.column_expressions import BAD_CELLS
from ml_pipelines.spec.checks import ColumnType

__all__ = ["BAD_CELLS_DTYPE", "bad_cell_text", "bad_cells", "has_bad_cell", "row_reason", "type_reason"]

BAD_CELLS_DTYPE = pl.List(pl.Struct({"column": pl.String(), "type": pl.String(), "cell": pl.String()}))
_MAX_CHARACTERS = 1000  # of a cell: the column must stay small beside the table


def bad_cells(cells: Mapping[str, tuple[ColumnType, pl.Expr]]) -> pl.Expr:
    """Return the structured column.

    Args:
        cells: by column its declared type, and the text of its bad cells, null for all others.
    """
    entries = [
        pl.when(text.is_not_null()).then(
            pl.struct(
                pl.lit(name).alias("column"), pl.lit(kind).alias("type"), text.str.head(_MAX_CHARACTERS).alias("cell")
            )
        )
        for name, (kind, text) in cells.items()
    ]
    row = pl.concat_list(entries).list.drop_nulls()
    return pl.when(row.list.len() > 0).then(row).alias(BAD_CELLS)


def has_bad_cell(column: str) -> pl.Expr:
    """Return whether the row's cell of a column is not of the declared type."""
    return pl.col(BAD_CELLS).list.eval(pl.element().struct.field("column") == column).list.any().fill_null(False)


def bad_cell_text(column: str) -> pl.Expr:
    """Return the text of the row's bad cell of a column, under the name `cell`; null if it is not bad."""
    entry = pl.element().filter(pl.element().struct.field("column") == column)
    return pl.col(BAD_CELLS).list.eval(entry.struct.field("cell")).list.first().alias("cell")


def row_reason() -> pl.Expr:
    """Return the sentence about all bad cells of a row, null if there are none."""
    entry = pl.element().struct
    article = pl.when(entry.field("type") == "integer").then(pl.lit("an")).otherwise(pl.lit("a"))
    sentence = pl.format("{} is not {} {}", entry.field("column"), article, entry.field("type"))
    return pl.col(BAD_CELLS).list.eval(sentence).list.join("; ")


def type_reason(column: str, kind: ColumnType) -> str:
    """Return the sentence about a bad cell of a column, as :func:`row_reason` writes it."""
    return f"{column} is not {'an' if kind == 'integer' else 'a'} {kind}"
