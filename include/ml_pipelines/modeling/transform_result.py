"""Check the form of the frame that a transform returns, and convert it to a table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl

from ml_pipelines.errors import UserCodeError

__all__ = ["check_result", "table_from_frame"]

_KEY = "features.transform"


def check_result(result: Any, index: pd.Index, path: str) -> pd.DataFrame:
    """Return the result if it is a frame with the same rows.

    Raises:
        UserCodeError: it is no frame, has other rows or another index, or its columns have no distinct text names.
    """
    if not isinstance(result, pd.DataFrame):
        raise _wrong(path, "returns no frame", "a pandas DataFrame", type(result).__name__)
    if len(result) != len(index):
        raise _wrong(path, "returns another number of rows", f"{len(index)} rows", f"{len(result)} rows")
    if not result.index.equals(index):
        expected = "the index of the frame that it receives, in the same order"
        raise _wrong(path, "returns other rows, or the rows in another order", expected, "another index")
    names = [*result.columns]
    if not names or len(set(names)) < len(names) or not all(isinstance(name, str) and name for name in names):
        raise _wrong(path, "returns columns without distinct names", "distinct text names", f"{names[:10]}")
    return result


def table_from_frame(frame: pd.DataFrame, path: str) -> pl.DataFrame:
    """Return the frame as a table of numbers, booleans, texts and datetimes.

    Raises:
        UserCodeError: a column holds something else.
    """
    return pl.DataFrame({name: _cells(frame[name], path) for name in frame.columns})


def _cells(column: pd.Series, path: str) -> pl.Series:
    kinds = pd.api.types
    if kinds.is_bool_dtype(column.dtype):
        return pl.Series([None if pd.isna(value) else bool(value) for value in column], dtype=pl.Boolean)
    if kinds.is_numeric_dtype(column.dtype) and not kinds.is_complex_dtype(column.dtype):
        return pl.Series(column.to_numpy(dtype=np.float64, na_value=np.nan)).fill_nan(None)
    if kinds.is_datetime64_any_dtype(column.dtype):
        times = column.dt.tz_convert("UTC").dt.tz_localize(None) if column.dt.tz is not None else column
        return pl.Series(times.to_numpy(dtype="datetime64[us]"), dtype=pl.Datetime("us"))
    return _texts(column, path)


def _texts(column: pd.Series, path: str) -> pl.Series:
    values = [None if value is None or value is pd.NA or value != value else value for value in column.astype(object)]
    wrong = next((value for value in values if value is not None and not isinstance(value, str)), None)
    if wrong is not None:
        expected = "numbers, booleans, datetimes or texts in a column, and one of these types"
        raise _wrong(path, f"returns a column {column.name!r} of another type", expected, type(wrong).__name__)
    return pl.Series(values, dtype=pl.String)


def _wrong(path: str, what: str, expected: str, got: str) -> UserCodeError:
    return UserCodeError(
        f"{path} {what}",
        where=_KEY,
        expected=expected,
        got=got,
        fix="return one row for each row of the frame, with `index=frame.index`",
    )
