"""Rows of a CSV or Parquet file as typed columns, by streaming.

Types of CSV cells, in the order in which an undeclared column is tried:

========== ==========================================================================================
integer    64 bits; a declared integer may also be written as `5.0`
float      64 bits, `inf` and `nan` included
boolean    `true` or `false` in any case; a declared boolean also `1` or `0`
date       `2026-10-31`; a declared date also a datetime at midnight
datetime   ISO 8601, a `T` or a space between date and time; without an offset it is UTC
string     as it is
========== ==========================================================================================

A number that a number would not give back (`007`, or 16 and more digits) makes an undeclared column a string. An empty
cell is null, and a record without a single value is no row. A cell that is not what is declared becomes null, and the
column `_unparsed` says what it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl

from ml_pipelines.errors import NoRows, SourceUnreadable
from ml_pipelines.progress import progress
from ml_pipelines.spec import ColumnType
from ml_pipelines.tables import ROW, UNPARSED, aggregate, counted

__all__ = ["DTYPES", "scan", "typed"]

DTYPES: dict[ColumnType, pl.DataType] = {
    "integer": pl.Int64(),
    "float": pl.Float64(),
    "boolean": pl.Boolean(),
    "date": pl.Date(),
    "datetime": pl.Datetime("us", "UTC"),
    "string": pl.String(),
}
_NOUNS: dict[ColumnType, str] = {kind: f"an {kind}" if kind == "integer" else f"a {kind}" for kind in DTYPES}
_SHOWN_CHARACTERS = 40
_FIRST_ROWS = 10_000
# Text that a float would not give back: a code with leading zeros, or more digits than a float holds.
_NOT_A_NUMBER = r"^[+-]?(0\d|\d{16,}$)"


def _is_csv(path: str) -> bool:
    return path.endswith(".csv")


def scan(path: str) -> pl.LazyFrame:
    """The rows of a local file, `.csv` or `.parquet`; the cells of a CSV file are text, an empty one is null."""
    if not _is_csv(path):
        return pl.scan_parquet(path, glob=False)
    return pl.scan_csv(path, infer_schema=False, glob=False).with_columns(pl.when(pl.all() != "").then(pl.all()))


def typed(frame: pl.LazyFrame, declared: dict[str, ColumnType], path: str) -> tuple[pl.LazyFrame, int]:
    """The frame with typed columns, and how many rows without any value were left out; reads it once, by streaming.

    Args:
        frame: what :func:`scan` gives, or some columns of it.
        declared: types by name; the other columns of a CSV file get the narrowest type that fits all their cells.
        path: of the file.

    Raises:
        NoRows: there is no row with a value.
        SourceUnreadable: a column holds no plain values.
    """
    schema = frame.collect_schema()
    plain = {name: _plain(name, dtype) for name, dtype in schema.items()}
    wanted = {name: declared[name] for name in plain if name in declared and DTYPES[declared[name]] != plain[name]}
    open_names = [name for name in plain if _is_csv(path) and name not in declared]
    frame = frame.select(
        _plain_values(name, dtype).cast(pl.String) if name in wanted else pl.col(name).cast(dtype)
        for name, dtype in plain.items()
    )
    facts = _facts(frame, open_names, wanted)
    if facts["rows"] == facts["empty"]:
        raise NoRows("there are no rows", expected="at least one row with a value", fix="deliver the rows")
    found = {name: _narrowest(name, facts) for name in open_names}
    if facts["empty"]:
        frame = frame.remove(pl.all_horizontal(pl.all().is_null()))
    unparsed = [_complaint(name, kind) for name, kind in wanted.items() if facts[name, "unparsed"]]
    complaint = pl.concat_str(unparsed, separator="; ", ignore_nulls=True) if unparsed else None
    table = frame.with_columns(
        *(_parse(name, kind) for name, kind in wanted.items()),
        *(_read(name, kind) for name, kind in found.items()),
        *([pl.when(complaint != "").then(complaint).alias(UNPARSED)] if complaint is not None else []),
    )
    return table, int(facts["empty"])


def _facts(frame: pl.LazyFrame, open_names: list[str], wanted: dict[str, ColumnType]) -> dict[Any, Any]:
    """Rows, rows without a value, and the narrowest type that fits all cells of a column, in one pass or two."""
    frame = frame.with_columns(pl.all_horizontal(pl.all().is_null()).alias(ROW))
    tried: dict[Any, pl.Expr] = {
        (name, kind): _fits(pl.col(name), kind) for name in open_names for kind in DTYPES if kind != "string"
    }
    # A type that does not fit the first rows needs no try on all the others, and a wider one none if a narrower fits.
    first = _answers(frame.head(_FIRST_ROWS).with_columns(_text(name) for name in open_names), tried)
    plausible = {name: [kind for kind in DTYPES if first.get((name, kind))] for name in open_names}
    narrowest = {name: kinds[0] for name, kinds in plausible.items() if kinds}
    asked: dict[Any, pl.Expr] = {"rows": pl.len(), "empty": pl.col(ROW).sum()}
    asked |= {(name, "filled"): pl.col(name).count() > 0 for name in narrowest}
    asked |= {question: tried[question] for question in narrowest.items()}
    asked |= {(name, "unparsed"): _complaint(name, kind).is_not_null().any() for name, kind in wanted.items()}
    frame = counted(frame, progress("finding the types", "rows")).with_columns(_text(name) for name in narrowest)
    facts = _answers(frame, asked)
    wider = [(name, kind) for name in narrowest if not facts[name, narrowest[name]] for kind in plausible[name][1:]]
    return facts | _answers(frame, {question: tried[question] for question in wider})


def _answers(frame: pl.LazyFrame, asked: dict[Any, pl.Expr]) -> dict[Any, Any]:
    if not asked:
        return {}
    row = aggregate(frame.select(expr.alias(str(position)) for position, expr in enumerate(asked.values()))).row(0)
    return dict(zip(asked, row, strict=True))


def _narrowest(name: str, facts: dict[Any, Any]) -> ColumnType:
    fitting = (kind for kind in DTYPES if facts.get((name, kind)))
    return next(fitting, "string") if facts.get((name, "filled")) else "string"


def _plain(name: str, dtype: pl.DataType) -> pl.DataType:
    """Our dtype for what a file holds."""
    if isinstance(dtype, pl.Datetime):
        return DTYPES["datetime"]
    if dtype.is_integer():
        return DTYPES["integer"]
    if dtype.is_numeric():
        return DTYPES["float"]
    if isinstance(dtype, pl.Date | pl.Boolean):
        return dtype
    if isinstance(dtype, pl.String | pl.Categorical | pl.Enum | pl.Null):
        return DTYPES["string"]
    raise SourceUnreadable(
        f"the column {name!r} holds no plain values",
        expected=f"one of {', '.join(DTYPES)}",
        got=str(dtype),
        fix="add it to data.ignore, or turn it into plain columns",
    )


def _plain_values(name: str, dtype: pl.DataType) -> pl.Expr:
    """A column that is declared as something else than the file says; what is not a number was missing, to pandas."""
    values = pl.col(name).cast(dtype)
    return values.fill_nan(None) if dtype.is_float() else values


def _text(name: str) -> pl.Expr:
    """A cell without the blanks around it, null if nothing is left."""
    text = pl.col(name).str.strip_chars()
    return pl.when(text != "").then(text)


def _parse(name: str, kind: ColumnType) -> pl.Expr:
    """A text column as a type; null where that is not what the cell says."""
    return pl.col(name) if kind == "string" else _PARSERS[kind](_text(name)).alias(name)


def _read(name: str, kind: ColumnType) -> pl.Expr:
    """A text column as the type that all its cells were found to be, which needs no second look at what they are."""
    quick = {"integer": _text(name).cast(pl.Int64), "date": _text(name).str.to_date("%Y-%m-%d")}
    return quick.get(kind, _parse(name, kind)).alias(name)


def _integer(text: pl.Expr) -> pl.Expr:
    number = text.cast(pl.Float64, strict=False)
    whole = pl.when(number == number.floor()).then(number).cast(pl.Int64, strict=False)
    return pl.coalesce(text.cast(pl.Int64, strict=False), whole)


def _boolean(text: pl.Expr) -> pl.Expr:
    lower = text.str.to_lowercase()
    return pl.when(lower.is_in(["true", "1"])).then(True).when(lower.is_in(["false", "0"])).then(False)


def _datetime(text: pl.Expr) -> pl.Expr:
    """ISO 8601. The usual lengths go first, since the forms with fractions and offsets are slow to read."""
    iso = text.str.replace(" ", "T", literal=True).str.strip_suffix("Z")
    usual = {10: "%Y-%m-%d", 16: "%Y-%m-%dT%H:%M", 19: "%Y-%m-%dT%H:%M:%S"}
    rest = pl.when(~iso.str.len_bytes().is_in(list(usual))).then(iso)
    forms = [(pl.when(iso.str.len_bytes() == size).then(iso), form) for size, form in usual.items()]
    naive = [
        cells.str.to_datetime(form, time_unit="us", strict=False, cache=False).dt.replace_time_zone("UTC")
        for cells, form in [*forms, (rest, "%Y-%m-%dT%H:%M:%S%.f")]
    ]
    return pl.coalesce(*naive, rest.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%#z", time_unit="us", strict=False))


def _date(text: pl.Expr) -> pl.Expr:
    moment = _datetime(pl.when(text.str.len_bytes() > len("2026-10-31")).then(text))
    midnight = pl.when(moment.dt.truncate("1d") == moment).then(moment).dt.date()
    return pl.coalesce(text.str.to_date("%Y-%m-%d", strict=False), midnight)


_PARSERS: dict[ColumnType, Callable[[pl.Expr], pl.Expr]] = {
    "integer": _integer,
    "float": lambda text: text.cast(pl.Float64, strict=False),
    "boolean": _boolean,
    "date": _date,
    "datetime": _datetime,
}


def _fits(text: pl.Expr, kind: ColumnType) -> pl.Expr:
    """Whether all cells of an undeclared column read as a type that loses nothing of them."""
    fits = {
        "integer": text.cast(pl.Int64, strict=False).cast(pl.String) == text,
        "float": text.cast(pl.Float64, strict=False).is_not_null() & ~text.str.contains(_NOT_A_NUMBER),
        "boolean": text.str.to_lowercase().is_in(["true", "false"]),
        "date": text.str.to_date("%Y-%m-%d", strict=False).is_not_null(),
        "datetime": _datetime(text).is_not_null(),
    }[kind]
    return (text.is_null() | fits.fill_null(False)).all()


def _complaint(name: str, kind: ColumnType) -> pl.Expr:
    """What is wrong with a cell, null if nothing is."""
    cell = pl.col(name).str.head(_SHOWN_CHARACTERS)
    shown = pl.format("{}: '{}' is not {}", pl.lit(name), cell, pl.lit(_NOUNS[kind]))
    return pl.when(_text(name).is_not_null() & _parse(name, kind).is_null()).then(shown)
