"""Run polars queries by streaming: with a bound on memory, and with progress."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import polars as pl

__all__ = ["aggregate", "count_rows", "limit_chunk_size", "report_progress"]

_CSV_BYTES = "POLARS_CSV_CHUNK_SIZE"
_BYTES_PER_CELL = 16


@contextmanager
def limit_chunk_size(cells_per_group: int, columns: int) -> Iterator[None]:
    """Limit the chunks of each streaming thread to a quarter of a row group, and those of a CSV file to as many cells.

    Polars buffers chunks where a query writes several files. Its own chunk size, 100,000 rows, takes twice the memory
    and saves no time.

    Args:
        cells_per_group: cells of a row group in the files that the query writes.
        columns: of the widest table that the query reads.
    """
    cells = max(cells_per_group // 4, 1)
    before = os.environ.get(_CSV_BYTES)
    # Polars has no function for this limit; without it, a chunk of a CSV file is up to 16 MB.
    os.environ[_CSV_BYTES] = str(cells * _BYTES_PER_CELL)
    try:
        with pl.Config(streaming_chunk_size=max(cells // columns, 1)):
            yield
    finally:
        if before is None:
            del os.environ[_CSV_BYTES]
        else:
            os.environ[_CSV_BYTES] = before


def aggregate(frame: pl.LazyFrame) -> pl.DataFrame:
    """Collect a small result by streaming: the table behind it need not fit in memory."""
    return frame.collect(engine="streaming")


def count_rows(table: pl.LazyFrame) -> int:
    """Return the number of rows; that of a Parquet file is read from its metadata."""
    return int(aggregate(table.select(pl.len())).item())


def report_progress(frame: pl.LazyFrame, advance: Callable[[int], None]) -> pl.LazyFrame:
    """Return the same frame; its collection calls `advance` with the number of rows of each chunk, from any thread."""
    schema = frame.collect_schema()
    name, dtype = next(iter(schema.items()))

    def count(cells: pl.Series) -> pl.Series:
        advance(len(cells))
        return cells

    first = pl.nth(0).map_batches(count, return_dtype=dtype, is_elementwise=True)
    return frame.with_columns(first.alias(name))
