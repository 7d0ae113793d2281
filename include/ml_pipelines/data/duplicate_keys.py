"""Which rows have a key that an earlier row has, in memory that does not grow with the table."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from ml_pipelines.data.streaming import ROW, aggregate, missing_expr

__all__ = ["find_duplicate_keys"]

_ROWS_PER_PART = 8_000_000
_KEYS_AT_A_TIME = 1_000_000


def find_duplicate_keys(table: pl.LazyFrame, key: str, rows: int) -> Iterator[pl.DataFrame]:
    """The rows whose key an earlier row has, as `key` and `_row`. One part of the keys after the other.

    Sorted hashes tell which keys may occur twice, in 8 bytes a row; only those keys are then compared themselves. A
    missing key is no key.

    Args:
        table: with its row numbers in `_row`.
        key: name of a column.
        rows: of the table.
    """
    present = table.filter(~missing_expr(key, table.collect_schema()[key]))
    keys = present.select(pl.col(key).alias("key"), ROW, pl.col(key).hash(0).alias("hash"))
    parts = rows // _ROWS_PER_PART + 1
    for part in range(parts):
        here = keys.filter(pl.col("hash") % parts == part)
        hashes = aggregate(here.select("hash")).to_series().sort()
        twice = hashes.filter(hashes == hashes.shift()).unique(maintain_order=True)
        for start in range(0, len(twice), _KEYS_AT_A_TIME):
            suspects = twice.slice(start, _KEYS_AT_A_TIME).to_frame().lazy()
            found = aggregate(here.join(suspects, on="hash", how="semi"))
            yield found.filter(pl.col(ROW) != pl.col(ROW).min().over("key")).select("key", ROW).sort(ROW)
