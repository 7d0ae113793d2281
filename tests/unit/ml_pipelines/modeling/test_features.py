from __future__ import annotations

import datetime as dt
import json
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_pipelines.errors import DataError
from ml_pipelines.modeling.features import feature_dtypes, feature_frame, frame_from_records, frame_to_records

COLUMNS: dict[str, tuple[pl.DataType, Any]] = {
    "ganz": (pl.Int64(), st.integers(-(2**53), 2**53)),
    "x": (pl.Float64(), st.floats()),
    "ja": (pl.Boolean(), st.booleans()),
    "straße": (pl.String(), st.text()),
    "day": (pl.Date(), st.dates(dt.date(1700, 1, 1), dt.date(2200, 1, 1))),
    "at": (pl.Datetime("us"), st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1))),
}
DTYPES = {"ganz": "integer", "x": "float", "ja": "boolean", "straße": "string", "day": "date", "at": "datetime"}
FEATURES = [{"name": name, "dtype": dtype} for name, dtype in DTYPES.items()]
ROWS = st.lists(st.fixed_dictionaries({name: st.none() | value for name, (_, value) in COLUMNS.items()}), max_size=8)


def table(rows: list[dict[str, Any]]) -> pl.LazyFrame:
    return pl.LazyFrame(rows, schema={name: kind for name, (kind, _) in COLUMNS.items()})


@given(ROWS)
def test_rows_come_back_from_json_as_they_were(rows: list[dict[str, Any]]) -> None:
    frame = feature_frame(table(rows), FEATURES)
    text = json.dumps(frame_to_records(frame), allow_nan=False)
    pd.testing.assert_frame_equal(frame_from_records(json.loads(text), FEATURES), frame)


@given(ROWS)
def test_a_feature_has_one_column_type_whatever_it_holds(rows: list[dict[str, Any]]) -> None:
    types = feature_frame(table(rows), FEATURES).dtypes.astype(str).tolist()
    assert types == ["float64", "float64", "boolean", "category", "datetime64[us]", "datetime64[us]"]


def test_levels_are_those_of_the_column_and_sorted_whatever_else_the_process_has_read() -> None:
    pl.Series(["z", "b", "only here"], dtype=pl.Categorical)
    texts = ["b", None, "a", "ä", "b", "A", ""]
    for kind in (pl.String(), pl.Categorical(), pl.Enum(["z", "ä", "b", "a", "A", ""])):
        rows = pl.LazyFrame({"s": pl.Series(texts, dtype=kind)})
        column = feature_frame(rows, [{"name": "s", "dtype": "string"}])["s"]
        assert column.cat.categories.tolist() == ["", "A", "a", "b", "ä"]
        assert column.astype(object).where(column.notna(), None).tolist() == texts
    none = feature_frame(pl.LazyFrame({"s": [None, None]}), [{"name": "s", "dtype": "string"}])["s"]
    assert (none.cat.categories.tolist(), none.cat.codes.tolist()) == ([], [-1, -1])


def test_dtypes_of_columns() -> None:
    kinds = {name: kind for name, (kind, _) in COLUMNS.items()}
    assert feature_dtypes(kinds) == DTYPES
    others = {"n": pl.Null(), "c": pl.Categorical(), "d": pl.Decimal(5, 2), "u": pl.UInt8(), "t": pl.Datetime("ms")}
    assert list(feature_dtypes(others).values()) == ["string", "string", "float", "integer", "datetime"]
    with pytest.raises(DataError, match="column 'l' can't be a feature") as caught:
        feature_dtypes({"l": pl.List(pl.Int8())})
    assert "data.ignore" in caught.value.fix


def test_infinite_numbers_are_missing_and_times_are_in_utc() -> None:
    when = dt.datetime(2026, 1, 1, 12, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    rows = pl.LazyFrame({"x": [float("inf"), 1.0], "at": [when, None]}).with_columns(
        pl.col("at").dt.convert_time_zone("Europe/Berlin")
    )
    frame = feature_frame(rows, [{"name": "at", "dtype": "datetime"}, {"name": "x", "dtype": "float"}])
    assert frame.columns.tolist() == ["at", "x"]
    np.testing.assert_array_equal(frame["x"], [np.nan, 1.0])
    assert frame["at"][0] == pd.Timestamp("2026-01-01 10:00")


def test_numbers_of_another_width_and_columns_without_values_are_taken() -> None:
    rows = pl.LazyFrame({"x": [1, 2], "s": [3, None], "e": [None, None]})
    features = [{"name": "x", "dtype": "float"}, {"name": "s", "dtype": "string"}, {"name": "e", "dtype": "float"}]
    frame = feature_frame(rows, features)
    assert frame["x"].tolist() == [1.0, 2.0]
    assert frame["s"].isna().tolist() == [False, True]
    assert frame["s"].cat.categories.tolist() == ["3"]
    assert frame["e"].isna().all()


def test_another_type_than_in_training_is_an_error() -> None:
    with pytest.raises(DataError, match="column 'x' is of another type than in training") as caught:
        feature_frame(pl.LazyFrame({"x": ["1"]}), [{"name": "x", "dtype": "integer"}])
    assert (caught.value.expected, caught.value.got) == ("integer", "string")
    assert "data.columns" in caught.value.fix


def test_a_missing_column_is_an_error() -> None:
    with pytest.raises(DataError, match="missing: y"):
        feature_frame(pl.LazyFrame({"x": [1]}), [{"name": "y", "dtype": "integer"}])
    with pytest.raises(DataError, match="missing: y"):
        frame_from_records([{"x": 1}], [{"name": "y", "dtype": "integer"}])


@pytest.mark.parametrize(("dtype", "value"), [("date", "soon"), ("float", "many"), ("boolean", "perhaps")])
def test_a_record_of_another_type_is_an_error(dtype: str, value: str) -> None:
    with pytest.raises(DataError, match=f"column 'x' is no {dtype}"):
        frame_from_records([{"x": value}], [{"name": "x", "dtype": dtype}])


@pytest.mark.parametrize("name", ["^x$", "*", 'a "b" c'])
@pytest.mark.parametrize(
    ("dtype", "cells"), [("float", [1.5, None]), ("string", ["b", None]), ("boolean", [True, None])]
)
def test_feature_frame_takes_column_names_as_they_are(name: str, dtype: str, cells: list[Any]) -> None:
    frame = feature_frame(pl.LazyFrame({name: cells, "x": [1, 2]}), [{"name": name, "dtype": dtype}])
    assert frame.columns.tolist() == [name]
    assert frame[name].isna().tolist() == [False, True]
    assert frame[name][0] == cells[0]
