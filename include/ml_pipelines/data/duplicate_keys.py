"""Find rows whose key occurs in an earlier row, in memory that does not grow with the table."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from ml_pipelines.data.column_expressions import ROW, column, missing_cell
from ml_pipelines.data.streaming import aggregate

__all__ = ["KEYS_AT_A_TIME", "ROWS_PER_PART", "find_duplicate_keys"]

ROWS_PER_PART = 8_000_000
"""How many hashes of keys are held at a time, 8 bytes each."""
KEYS_AT_A_TIME = 1_000_000
"""How many keys that may occur twice are compared at a time."""


def find_duplicate_keys(table: pl.LazyFrame, key: str, rows: int) -> Iterator[pl.DataFrame]:
    """Yield the rows whose key occurs in an earlier row, as `key` and `_row`, one part of the keys after the other.

    Sorted hashes show which keys may occur twice; only those keys are compared. A missing key is not a duplicate.

    Args:
        table: with its row numbers in `_row`.
        key: name of a column.
        rows: of the table.
    """
    present = table.filter(~missing_cell(key, table.collect_schema()[key]))
    keys = present.select(column(key).alias("key"), ROW, column(key).hash(0).alias("hash"))
    parts = rows // ROWS_PER_PART + 1
    for part in range(parts):
        of_part = keys.filter(pl.col("hash") % parts == part)
        hashes = aggregate(of_part.select("hash")).to_series().sort()
        repeated = hashes.filter(hashes == hashes.shift()).unique(maintain_order=True)
        for start in range(0, len(repeated), KEYS_AT_A_TIME):
            suspects = repeated.slice(start, KEYS_AT_A_TIME).to_frame().lazy()
            rows_of_suspects = aggregate(of_part.join(suspects, on="hash", how="semi"))
            later = pl.col(ROW) != pl.col(ROW).min().over("key")
            yield rows_of_suspects.filter(later).select("key", ROW).sort(ROW)
