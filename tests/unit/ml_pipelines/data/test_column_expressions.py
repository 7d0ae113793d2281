from __future__ import annotations

import math

import polars as pl
import pytest

from ml_pipelines.data.column_expressions import (
    check_reserved_names,
    check_row_count,
    column,
    missing_cell,
    missing_column_error,
)
from ml_pipelines.errors import DataError

PATTERNS = ["^income$", "*", 'a "b" c', "^.*$", "income"]
TABLE = pl.LazyFrame({name: [position] for position, name in enumerate(PATTERNS)})


@pytest.mark.parametrize("name", PATTERNS)
def test_column_selects_the_column_of_exactly_this_name(name: str) -> None:
    assert TABLE.select(column(name)).collect().to_dict(as_series=False) == {name: [PATTERNS.index(name)]}


def test_missing_cell_is_null_or_nan() -> None:
    table = pl.LazyFrame({"x": [1.0, None, math.nan, math.inf], "s": ["", None, "a", "nan"]})
    schema = table.collect_schema()
    cells = table.select(missing_cell(name, schema[name]) for name in ("x", "s")).collect()
    assert cells.to_dict(as_series=False) == {
        "x": [False, True, True, False],
        "s": [False, True, False, False],
    }


@pytest.mark.parametrize("name", ["_bad_cells", "_row", "_reason"])
def test_check_reserved_names_refuses_the_names_of_the_steps(name: str) -> None:
    with pytest.raises(DataError, match=name):
        check_reserved_names(["x", name])
    check_reserved_names(["x", name.upper()])


def test_missing_column_error_suggests_the_closest_name() -> None:
    error = missing_column_error("amout", "key", ["id", "amount"], where="data.key")
    assert (error.where, error.got) == ("data.key", "id, amount")
    assert "'amount'" in error.fix
    assert "'id'" not in missing_column_error("zzz", "key", ["id"]).fix


def test_check_row_count_refuses_lost_and_added_rows() -> None:
    check_row_count(3, 3, where="data.csv")
    for rows in (2, 4):
        with pytest.raises(DataError) as caught:
            check_row_count(rows, 3, where="data.csv")
        assert (caught.value.where, caught.value.expected, caught.value.got) == ("data.csv", "3 rows", f"{rows} rows")
