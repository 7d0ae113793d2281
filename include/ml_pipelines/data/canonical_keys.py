"""The canonical text of a key: a row keeps its identity when another program writes the table.

========= ============================================================================================
number    `100000` for `100000.0` and `1e+05`
text      without blanks around it; a number as above, but `00123` and `1e5` stay text
time      ISO 8601 in UTC; midnight is the date alone
========= ============================================================================================
"""

from __future__ import annotations

import polars as pl

from ml_pipelines.data.column_expressions import column
from ml_pipelines.data.streaming import aggregate
from ml_pipelines.data.type_inference import DECLARED_READERS

__all__ = ["EXACT_INTEGERS", "canonical_key", "inexact_key", "with_canonical_key"]

EXACT_INTEGERS = 2.0**53
"""From this size on, a float may stand for several whole numbers."""

_WHOLE_DECIMAL = r"^(0|-?[1-9]\d*)\.0+$"
# Without the sign, such as in `1e5`, it may be a code.
_SCIENTIFIC = r"^-?[1-9](?:\.\d+)?[eE]\+\d+$"
_MOMENT = r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d"
_OTHER_SPELLING = rf"^\s|\s$|^$|{_WHOLE_DECIMAL}|{_SCIENTIFIC}|{_MOMENT}"
_ISO = "%Y-%m-%dT%H:%M:%S%.f"
_MIDNIGHT = "T00:00:00"


def canonical_key(name: str, dtype: pl.DataType) -> pl.Expr:
    """Return the canonical text of a key column, null for a missing key."""
    key = column(name)
    if dtype == pl.String:
        text = key.map_batches(_canonical_texts, return_dtype=pl.String, is_elementwise=True)
    elif dtype.is_float():
        text = _number(key)
    elif isinstance(dtype, pl.Datetime):
        text = _moment(key.dt.convert_time_zone("UTC") if dtype.time_zone else key)
    else:
        text = key.cast(pl.String)
    return text.alias(name)


def inexact_key(name: str) -> pl.Expr:
    """Return whether a key of floats is too large to stand for one whole number."""
    return (column(name).abs() >= EXACT_INTEGERS) & column(name).is_not_nan()


def with_canonical_key(table: pl.LazyFrame, name: str) -> pl.LazyFrame:
    """Return the table with canonical texts in a text key, and integers in a key of whole floats."""
    dtype = table.collect_schema()[name]
    if dtype == pl.String:
        return table.with_columns(canonical_key(name, dtype))
    if not dtype.is_float():
        return table
    # Pandas writes integers as floats as soon as one of them is missing.
    key = column(name).fill_nan(None)
    whole = aggregate(table.select(((key == key.floor()) & ~inexact_key(name)).all().alias("whole"))).item()
    return table.with_columns(key.cast(pl.Int64)) if whole else table


def _canonical_texts(cells: pl.Series) -> pl.Series:
    """Return the texts. Most columns have no other spelling, and one search for it is faster than the conversions."""
    texts = cells.alias("key")  # methods of a series read its name as a pattern
    if not texts.str.contains(_OTHER_SPELLING).any():
        return cells
    table = texts.to_frame()
    return table.select(_text(pl.col("key").str.strip_chars()))["key"].alias(cells.name)


def _text(text: pl.Expr) -> pl.Expr:
    scientific = pl.when(text.str.contains(_SCIENTIFIC)).then(text).cast(pl.Float64, strict=False)
    number = pl.when(scientific.abs() < EXACT_INTEGERS).then(_number(scientific))
    moment = DECLARED_READERS["datetime"][-1].parse(pl.when(text.str.contains(_MOMENT)).then(text))
    # Blanks alone are no key.
    text = pl.when(text != "").then(text)
    return pl.coalesce(number, _moment(moment), text.str.replace(_WHOLE_DECIMAL, "$1")).alias("key")


def _number(key: pl.Expr) -> pl.Expr:
    key = key.fill_nan(None)
    whole = pl.when(key == key.floor()).then(key).cast(pl.Int64, strict=False)
    return pl.coalesce(whole.cast(pl.String), key.cast(pl.String))


def _moment(key: pl.Expr) -> pl.Expr:
    return key.dt.to_string(_ISO).str.strip_suffix(_MIDNIGHT)
