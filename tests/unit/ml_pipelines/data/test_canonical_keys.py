from __future__ import annotations

import datetime as dt
import math

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_pipelines.data.canonical_keys import canonical_key, inexact_key, with_canonical_key
from ml_pipelines.data.row_hash import row_hash

EXACT = st.integers(-(2**53) + 1, 2**53 - 1)


def canonical(values: list[object], dtype: pl.DataType | None = None) -> list[str | None]:
    frame = pl.DataFrame({"^id$": pl.Series(values, dtype=dtype)})
    return frame.select(canonical_key("^id$", frame.schema["^id$"]))["^id$"].to_list()


def hashes(values: list[object], dtype: pl.DataType | None = None) -> list[int]:
    frame = pl.LazyFrame({"id": pl.Series(values, dtype=dtype)})
    return frame.select(row_hash(frame, "id", 42).alias("hash")).collect()["hash"].to_list()


@pytest.mark.parametrize(
    "spellings",
    [
        ([100_000], [100_000.0], ["100000"], ["100000.0"], [" 100000 "], ["1e+05"], ["1.0E+5"]),
        ([9_007_199_254_740_993], ["9007199254740993"], ["9007199254740993.0"]),
        (
            [dt.date(2026, 1, 31)],
            [dt.datetime(2026, 1, 31)],
            [dt.datetime(2026, 1, 31, tzinfo=dt.UTC)],
            ["2026-01-31"],
            ["2026-01-31 00:00:00"],
            ["2026-01-31T00:00Z"],
        ),
        ([dt.datetime(2026, 1, 31, 12, 30)], ["2026-01-31 12:30:00"], ["2026-01-31T13:30:00+01:00"]),
        ([None], [math.nan], pl.Series([None], dtype=pl.String).to_list()),
    ],
)
def test_a_key_has_one_text_and_one_hash_in_every_spelling(spellings) -> None:
    assert len({canonical(values)[0] for values in spellings}) == 1
    assert len({hashes(values)[0] for values in spellings}) == 1


def test_codes_keep_the_text_that_distinguishes_them() -> None:
    codes = ["123", "00123", "00123.0", "1e5", "100000", "1.10", "1.1", "9007199254740992", "9007199254740993"]
    assert canonical(codes) == codes
    assert len(set(hashes(codes))) == len(codes)


@settings(max_examples=200, deadline=None)
@given(st.lists(EXACT, min_size=1, max_size=20))
def test_whole_numbers_have_one_identity_as_integer_float_and_text(values: list[int]) -> None:
    expected = hashes([*values], pl.Int64())
    for other in ([float(value) for value in values], [*map(str, values)], [f"{value}.0" for value in values]):
        assert hashes(other) == expected
    mixed = [f"{values[0]}.0", "A5", "00123"]
    assert hashes(mixed)[0] == expected[0]


@given(st.lists(st.text(max_size=9), max_size=12))
def test_canonical_text_is_a_fixed_point(values: list[str]) -> None:
    once = canonical([*values], pl.String())
    assert canonical(once, pl.String()) == once


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, math.nan, None, -3.0], [1, None, None, -3]),
        ([1.0, 1.5], [1.0, 1.5]),
        ([1.0, 2.0**53], [1.0, 2.0**53]),
        ([" A1", "2.0"], ["A1", "2"]),
        ([True], [True]),
    ],
)
def test_the_key_column_of_a_table_gets_its_canonical_form(values, expected) -> None:
    table = pl.LazyFrame({"id": values, "x": 0})
    result = with_canonical_key(table, "id").collect()
    assert result["id"].to_list() == expected
    assert result["id"].dtype == pl.Series(expected).dtype
    assert result["x"].to_list() == [0] * len(values)


def test_a_float_that_may_stand_for_several_integers_is_inexact() -> None:
    frame = pl.DataFrame({"id": [2.0**53, -(2.0**53), 2.0**53 - 1, math.nan, None, math.inf]})
    assert frame.select(inexact_key("id")).to_series().to_list() == [True, True, False, False, None, True]
