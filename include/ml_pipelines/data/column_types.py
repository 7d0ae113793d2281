"""The types of columns: those that the steps know, and the one that a column of a file becomes."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from ml_pipelines.data.column_expressions import column
from ml_pipelines.data.streaming import aggregate
from ml_pipelines.errors import SourceUnreadable
from ml_pipelines.spec.checks import ColumnType

__all__ = ["DTYPES", "as_text", "plain_types", "type_name"]

DTYPES: dict[ColumnType, pl.DataType] = {
    "integer": pl.Int64(),
    "float": pl.Float64(),
    "boolean": pl.Boolean(),
    "date": pl.Date(),
    "datetime": pl.Datetime("us", "UTC"),
    "string": pl.String(),
}

_INT64 = (-(2**63), 2**63 - 1)


def plain_types(
    frame: pl.LazyFrame, schema: Mapping[str, pl.DataType], declared: Mapping[str, ColumnType]
) -> dict[str, pl.DataType]:
    """Return for each column of a schema the type of :data:`DTYPES` that holds its values.

    Whole numbers that 64 bits can't hold become text, as in a CSV file.

    Args:
        frame: the rows.
        schema: the types that the file has.
        declared: types by name; a declared column may have any type that has a text.

    Raises:
        SourceUnreadable: a column holds lists, structs or other values without such a type.
    """
    wide = [name for name, dtype in schema.items() if _is_wide(dtype)]
    unbounded = _beyond_int64(frame, wide) if wide else set()
    return {
        name: DTYPES["string"] if name in unbounded else _plain(name, dtype, name in declared)
        for name, dtype in schema.items()
    }


def as_text(name: str, dtype: pl.DataType) -> pl.Expr:
    """Return the text of a column whose declared type differs from that of the file. NaN is missing, as in pandas."""
    values = column(name)
    return (values.fill_nan(None) if dtype.is_float() else values).cast(pl.String)


def _is_wide(dtype: pl.DataType) -> bool:
    return dtype in (pl.UInt64, pl.Int128, pl.UInt128) or (isinstance(dtype, pl.Decimal) and dtype.scale == 0)


def _beyond_int64(frame: pl.LazyFrame, names: list[str]) -> set[str]:
    """Return the columns with a number that 64 bits can't hold."""
    bounds = [
        bound.alias(f"{position} {number}")
        for position, name in enumerate(names)
        for number, bound in enumerate((column(name).min(), column(name).max()))
    ]
    values = aggregate(frame.select(bounds)).row(0)
    pairs = zip(names, values[0::2], values[1::2], strict=True)
    return {name for name, low, high in pairs if low is not None and (low < _INT64[0] or high > _INT64[1])}


def _plain(name: str, dtype: pl.DataType, is_declared: bool) -> pl.DataType:
    if isinstance(dtype, pl.Datetime):
        return DTYPES["datetime"]
    if dtype.is_integer() or (isinstance(dtype, pl.Decimal) and dtype.scale == 0):
        return DTYPES["integer"]
    if dtype.is_numeric():
        return DTYPES["float"]
    if isinstance(dtype, pl.Date | pl.Boolean):
        return dtype
    if isinstance(dtype, pl.String | pl.Categorical | pl.Enum | pl.Null | pl.Time):
        return DTYPES["string"]
    if isinstance(dtype, pl.Binary) and is_declared:
        return dtype
    fix = "add it to data.ignore, or split it into columns of single values"
    if isinstance(dtype, pl.Binary):
        fix = f"add it to data.ignore, or declare that its bytes are text: data.columns.{name}.type: string"
    if isinstance(dtype, pl.Duration):
        fix = "add it to data.ignore, or write it as a number, for example of seconds"
    raise SourceUnreadable(f"the column {name!r} has the type {dtype}", expected=f"one of {', '.join(DTYPES)}", fix=fix)


def type_name(dtype: pl.DataType) -> ColumnType:
    """Return the name of the type of an ingested column."""
    return next(name for name, kind in DTYPES.items() if kind.base_type() == dtype.base_type())
