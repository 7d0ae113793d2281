"""A hash of rows that stays the same for good: whatever the order and the number of rows, and whatever library runs it.

It is integer arithmetic modulo 2**64 and nothing else. It spreads evenly; it keeps no secrets.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import polars as pl
from numpy.typing import NDArray

__all__ = ["row_hash"]

Words = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def row_hash(table: pl.LazyFrame, key: str | None, seed: int) -> pl.Expr:
    """The hash of each row as UInt64: of the text of its key, or of all its cells if there is no key.

    Without a key, equal rows have the same hash, and the order of the columns does not matter. A missing key is hashed
    like an empty one.
    """
    if key is not None:
        return _hashed(pl.col(key).cast(pl.String), seed, "")
    schema = table.collect_schema()
    first, *others = (_hashed(_content(name, schema[name]), seed, name) for name in schema)
    for other in others:
        first = first + other
    return first


def _hashed(cells: pl.Expr, seed: int, salt: str) -> pl.Expr:
    word = _mix(_of_text(pl.Series([salt])) + _words(seed % 2**64))
    return cells.map_batches(partial(_of_cells, word), return_dtype=pl.UInt64, is_elementwise=True)


def _content(name: str, dtype: pl.DataType) -> pl.Expr:
    """Text, or a float: a number hashes the same whether its column holds integers or not. Adding 0 unites 0 and -0."""
    return pl.col(name) if dtype == pl.String else pl.col(name).to_physical().cast(pl.Float64) + 0.0


def _of_cells(word: Words, cells: pl.Series) -> pl.Series:
    if cells.dtype == pl.String:
        hashes = _of_text(cells.fill_null(""))
    else:
        hashes = cells.fill_null(float("nan")).to_numpy().view(np.uint64)
    return pl.Series(cells.name, _mix(hashes ^ word), dtype=pl.UInt64)


def _of_text(cells: pl.Series) -> Words:
    """The sum of the bytes of each cell, each times a number that belongs to its position, and of the length."""
    sizes = cells.str.len_bytes().to_numpy().astype(np.int64)
    data = np.frombuffer("".join(cells.str.join()).encode(), dtype=np.uint8)
    starts = np.cumsum(sizes) - sizes
    weights = _mix(np.arange(sizes.max(initial=0), dtype=np.uint64))
    hashes: Words = sizes.astype(np.uint64)
    shortest = int(sizes.min()) if len(sizes) else 0
    for position in range(shortest):
        hashes += data[starts + position] * weights[position]
    longer = np.arange(len(sizes))
    for position in range(shortest, len(weights)):
        longer = longer[sizes[longer] > position]
        hashes[longer] += data[starts[longer] + position] * weights[position]
    return hashes


def _mix(words: Words) -> Words:
    """Every bit of a word on every bit of the result: the finalizer of SplitMix64."""
    words = (words + _GOLDEN).astype(np.uint64)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _words(*values: int) -> Words:
    return np.array(values, dtype=np.uint64)
