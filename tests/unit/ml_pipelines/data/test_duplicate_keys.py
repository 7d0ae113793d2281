from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_pipelines.data import duplicate_keys
from ml_pipelines.data.column_expressions import ROW
from ml_pipelines.data.duplicate_keys import find_duplicate_keys


def later_rows(keys, name="id"):
    table = pl.LazyFrame({name: keys}).with_row_index(ROW)
    return sorted(row for part in find_duplicate_keys(table, name, len(keys)) for row in part[ROW])


@settings(max_examples=40, deadline=None)
@given(
    keys=st.lists(st.none() | st.integers(0, 12), min_size=1, max_size=60),
    part=st.integers(5, 70),
    at_a_time=st.integers(1, 8),
)
def test_find_duplicate_keys_yields_the_later_rows_of_each_key(keys, part, at_a_time):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicate_keys, "ROWS_PER_PART", part)
        patch.setattr(duplicate_keys, "KEYS_AT_A_TIME", at_a_time)
        rows = later_rows(pl.Series(keys, dtype=pl.Int64))
    assert rows == [row for row, key in enumerate(keys) if key is not None and key in keys[:row]]


def test_find_duplicate_keys_ignores_missing_keys():
    assert later_rows([None, 1.5, None, float("nan"), float("nan"), 1.5]) == [5]


@pytest.mark.parametrize("name", ["^id$", "*", "hash", "key", ROW + "s"])
def test_find_duplicate_keys_takes_the_name_of_the_key_as_it_is(name):
    assert later_rows(["a", "b", "a"], name) == [2]
