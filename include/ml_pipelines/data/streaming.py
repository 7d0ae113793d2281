"""What the table steps share: checks of a CSV file's bytes, vendor errors as ours, and streaming aggregates."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import polars as pl

from ml_pipelines.errors import DataError

__all__ = [
    "BAD_CELLS",
    "REASON",
    "ROW",
    "aggregate",
    "limit_chunk_size",
    "missing_column_error",
    "missing_expr",
    "report_progress",
]

BAD_CELLS, ROW, REASON = "_bad_cells", "_row", "_reason"

_CSV_BYTES, _BYTES_OF_CELL = "POLARS_CSV_CHUNK_SIZE", 16


@contextmanager
def limit_chunk_size(cells_per_group: int, columns: int) -> Iterator[None]:
    """Let every thread that streams over a table hold a quarter of a row group at a time, and of a CSV file as much.

    Polars buffers pieces where several files are written at once. Its own size, 100,000 rows, takes twice the memory,
    and saves no time.

    Args:
        cells_per_group: of the tables that are written.
        columns: of the widest table that is read.
    """
    cells = max(cells_per_group // 4, 1)
    before = os.environ.get(_CSV_BYTES)
    # Has no method of its own in polars; without it, the pieces are of up to 16 MB.
    os.environ[_CSV_BYTES] = str(cells * _BYTES_OF_CELL)
    try:
        with pl.Config(streaming_chunk_size=max(cells // columns, 1)):
            yield
    finally:
        if before is None:
            del os.environ[_CSV_BYTES]
        else:
            os.environ[_CSV_BYTES] = before


def aggregate(frame: pl.LazyFrame) -> pl.DataFrame:
    """Collect a few rows by streaming: the table behind them need not fit in memory."""
    return frame.collect(engine="streaming")


def report_progress(frame: pl.LazyFrame, tell: Callable[[int], None]) -> pl.LazyFrame:
    """The same table; `tell` learns how many rows there are of each piece that streams by, from any thread."""
    name, dtype = next(iter(frame.collect_schema().items()))

    def passed(cells: pl.Series) -> pl.Series:
        tell(len(cells))
        return cells

    return frame.with_columns(pl.col(name).map_batches(passed, return_dtype=dtype, is_elementwise=True))


def missing_expr(name: str, dtype: pl.DataType) -> pl.Expr:
    """Whether a cell is null or, in a float column, not a number."""
    column = pl.col(name)
    return column.is_null() | column.is_nan().fill_null(True) if dtype.is_float() else column.is_null()


def missing_column_error(name: str, role: str, there: Iterable[str], *, where: str = "") -> DataError:
    """The error for a column that should be there: with those that are, and the one that may be meant."""
    names = list(there)
    near = difflib.get_close_matches(name, names, 1)
    return DataError(
        f"the {role} {name!r} is not in the data",
        where=where,
        expected=f"a column called {name!r}",
        got=", ".join(names),
        fix=f"did you mean {near[0]!r}?" if near else "correct the name in the declaration, or add it to the data",
    )
