"""Values of a database driver as columns of a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import polars as pl

from ml_pipelines.errors import SourceUnreadable

__all__ = ["to_series", "wider_type"]

_Column = tuple[pl.DataType, Callable[[Any], Any] | None]
_WHOLE = pl.Decimal(38, 0)  # whole numbers with more digits than 64 bits hold
_INTEGER, _FLOAT, _TEXT, _UTC = pl.Int64(), pl.Float64(), pl.String(), pl.Datetime("us", "UTC")
_TYPES: dict[type, _Column] = {
    bool: (pl.Boolean(), None),
    int: (_INTEGER, None),
    float: (_FLOAT, None),
    Decimal: (_FLOAT, None),
    str: (_TEXT, None),
    UUID: (_TEXT, str),
    time: (_TEXT, time.isoformat),
    date: (pl.Date(), None),
    datetime: (pl.Datetime("us"), None),
}


def to_series(name: str, values: Sequence[Any], where: str) -> pl.Series:
    """Return the values of a column as one type that holds them all.

    Raises:
        SourceUnreadable: they are of several types, or of one that no table can keep.
    """
    dtype: pl.DataType = pl.Null()
    converters: dict[type, Callable[[Any], Any]] = {}
    for kind in {type(value) for value in values} - {type(None)}:
        wanted, converter = _TYPES.get(kind) or _no_type(name, kind, where)
        if kind is datetime and any(value.tzinfo for value in values if value is not None):
            wanted, converter = _UTC, _to_utc
        if kind in (int, Decimal) and _is_whole(values, kind):
            wanted = _WHOLE
        dtype = wider_type(dtype, wanted, name, where)
        if converter:
            converters[kind] = converter
    if dtype == _FLOAT:
        converters |= {int: float, Decimal: float}
    if dtype == _WHOLE:
        converters[int] = Decimal
    if converters:
        values = [converters[type(value)](value) if type(value) in converters else value for value in values]
    try:
        return pl.Series(name, values, dtype=dtype)
    except (TypeError, OverflowError, RuntimeError) as exc:
        raise _mixed(name, str(exc), where) from exc


def _is_whole(values: Sequence[Any], kind: type) -> bool:
    """Return whether the numbers of a kind need a decimal without fraction: a float would lose digits."""
    numbers: list[Any] = [value for value in values if type(value) is kind]
    if kind is int:
        return bool(min(numbers) < -(2**63) or max(numbers) >= 2**63)
    return all(number.is_finite() and number.as_tuple().exponent >= 0 for number in numbers)


def _to_utc(value: datetime) -> datetime:
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


def wider_type(one: pl.DataType, other: pl.DataType, name: str, where: str) -> pl.DataType:
    """Return the type that holds the values of two types."""
    if one in (other, pl.Null()):
        return other
    if other == pl.Null():
        return one
    numbers: list[pl.DataType] = [_FLOAT, _WHOLE, _INTEGER]
    if one in numbers and other in numbers:
        return numbers[min(numbers.index(one), numbers.index(other))]
    raise _mixed(name, f"{one} and {other}", where)


def _mixed(name: str, got: str, where: str) -> SourceUnreadable:
    return SourceUnreadable(
        f"the column {name!r} holds values of several types",
        where=where,
        expected="one type in a column",
        got=got,
        fix=f"convert it in the query: CAST({name} AS ...)",
    )


def _no_type(name: str, kind: type, where: str) -> _Column:
    raise SourceUnreadable(
        f"the column {name!r} holds values that no table can keep",
        where=where,
        expected="numbers, text, booleans, dates or times",
        got=kind.__name__,
        fix="leave it out of the query, or convert it there to text or a number",
    )
