from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ml_pipelines.data import row_hash as module
from ml_pipelines.data.row_hash import row_hash, text_hash

GOLDEN_BY_KEY = [8703094741349279530, 6332618229526065668, 17274282905359496837, 6332618229526065668]
GOLDEN_BY_CONTENT = [9351983269752056513, 7077752741204090807, 11312095201531815129, 16734189683759817087]


def hashes(table: pl.DataFrame, key: str | None = "id", seed: int = 42) -> list[int]:
    lazy = table.lazy()
    return lazy.select(row_hash(lazy, key, seed).alias("hash")).collect()["hash"].to_list()


def keys(values: list[object], dtype: pl.DataType | None = None) -> pl.DataFrame:
    return pl.DataFrame({"id": pl.Series(values, dtype=dtype)})


def test_row_hash_never_changes() -> None:
    table = pl.DataFrame({"id": ["C00001", "", "größe", None], "n": [1, 0, -5, None], "f": [0.5, -0.0, math.inf, None]})
    assert hashes(table) == GOLDEN_BY_KEY
    assert hashes(table, None) == GOLDEN_BY_CONTENT


def weights(count: int) -> list[int]:
    """The finalizer of SplitMix64 of 0, 1, ..., in Python's integers."""

    def mix(word: int) -> int:
        word = (word + 0x9E3779B97F4A7C15) % 2**64
        word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        word = (word ^ word >> 27) * 0x94D049BB133111EB % 2**64
        return word ^ word >> 31

    return [mix(position) for position in range(count)]


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text(max_size=9), max_size=12), limit=st.integers(1, 40))
@example(texts=["", "a", "", ""], limit=40)
@example(texts=[], limit=1)
def test_text_hash_is_the_weighted_sum_of_the_bytes_and_their_number(texts: list[str], limit: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_BYTES", limit)
        result = text_hash(pl.Series(texts, dtype=pl.String)).tolist()
    sums = [
        sum(byte * weight for byte, weight in zip(text.encode(), weights(64), strict=False)) + len(text.encode())
        for text in texts
    ]
    assert result == [total % 2**64 for total in sums]


def test_row_hash_of_equal_cells_ignores_the_types_and_the_order_of_the_columns() -> None:
    table = pl.DataFrame({"a": [1, 2], "b": [0.0, -0.0]})
    same = pl.DataFrame({"b": [0, 0], "a": [1.0, 2.0]})
    swapped = pl.DataFrame({"b": [1, 2], "a": [0, 0]})
    assert hashes(table, None) == hashes(same, None)
    assert not set(hashes(table, None)) & set(hashes(swapped, None))


@given(st.lists(st.integers(-(2**53), 2**53), min_size=1, max_size=20))
def test_row_hash_of_a_key_is_the_same_as_integer_float_and_text(values: list[int]) -> None:
    expected = hashes(keys([*map(str, values)], pl.String()))
    assert hashes(keys([*values], pl.Int64())) == expected
    assert hashes(keys([*map(float, values)], pl.Float64())) == expected


def test_row_hash_of_a_float_key_keeps_fractions_and_large_numbers_apart() -> None:
    values = [1.0, 1.5, 1e300, 2e300, -0.0, math.inf]
    assert len(set(hashes(keys([*values])))) == len(values)
    assert hashes(keys([math.nan, None], pl.Float64())) == hashes(keys(["", ""]))


def test_row_hash_spreads_evenly_and_differs_by_seed() -> None:
    table = keys([f"C{row:06}" for row in range(100_000)])
    one, two = (np.array(hashes(table, seed=seed), dtype=np.uint64) for seed in (1, -2))
    assert len(np.unique(one)) == 100_000
    for values in (one, two):
        counts = np.bincount((values >> np.uint64(60)).astype(int), minlength=16)
        assert abs(counts - 6250).max() < 5 * math.sqrt(6250)
    both = np.mean((one < np.uint64(2**63)) & (two < np.uint64(2**63)))
    assert both == pytest.approx(0.25, abs=0.01)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=6), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_row_hash_does_not_depend_on_the_other_rows_or_their_order(texts: list[str], order) -> None:
    expected = dict(zip(texts, hashes(keys([*texts], pl.String())), strict=True))
    shuffled = [*texts, "another"]
    order.shuffle(shuffled)
    chunks = [keys([text], pl.String()) for text in shuffled]
    result = dict(zip(shuffled, hashes(pl.concat(chunks, rechunk=False)), strict=True))
    assert {text: result[text] for text in texts} == expected


@pytest.mark.parametrize("name", ["^a$", "*"])
def test_row_hash_takes_column_names_as_they_are(name: str) -> None:
    table = pl.DataFrame({name: ["k1", "k2"], "a": ["k2", "k1"]})
    assert hashes(table, name) == hashes(table.rename({name: "id"}), "id")
    assert len(set(hashes(table, None))) == 2
