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
column `_bad_cells` says what it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import polars as pl

from ml_pipelines._utils.progress import progress_logger
from ml_pipelines.data.streaming import BAD_CELLS, aggregate, report_progress
from ml_pipelines.errors import NoRows, SourceUnreadable
from ml_pipelines.spec.training import ColumnType

__all__ = ["DTYPES", "parse_columns", "scan_source"]

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
_FIRST_ROWS = (100, 10_000)
# Text that a float would not give back: a code with leading zeros, or more digits than a float holds.
_NOT_A_NUMBER = r"^[+-]?(0\d|\d{16,}$)"


def _is_csv(path: str) -> bool:
    return path.endswith(".csv")


def scan_source(path: str) -> pl.LazyFrame:
    """The rows of a local file, `.csv` or `.parquet`; the cells of a CSV file are text, an empty one is null."""
    if not _is_csv(path):
        return pl.scan_parquet(path, glob=False)
    return pl.scan_csv(path, infer_schema=False, glob=False).with_columns(pl.when(pl.all() != "").then(pl.all()))


def parse_columns(frame: pl.LazyFrame, declared: dict[str, ColumnType], path: str) -> tuple[pl.LazyFrame, int]:
    """Return the frame with typed columns and the number of empty rows that it leaves out.

    One streaming pass over the rows finds the types.

    Args:
        frame: what :func:`scan_source` gives, or some columns of it.
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
    wanted = {name: kind for name, kind in wanted.items() if kind != "string"}
    ways = dict.fromkeys(open_names, _WAYS_OF_OPEN) | {name: _WAYS_OF[kind] for name, kind in wanted.items()}
    rows, empty, found = _facts(frame, ways)
    if rows == empty:
        raise NoRows("there are no rows", expected="at least one row with a value", fix="deliver the rows")
    if empty:
        frame = frame.remove(pl.all_horizontal(pl.all().is_null()))
    unparsed = {name: kind for name, kind in wanted.items() if name not in found}
    complaints = [_complaint(name, kind) for name, kind in unparsed.items()]
    complaint = pl.concat_str(complaints, separator="; ", ignore_nulls=True) if complaints else None
    table = frame.with_columns(
        *(way.values(name) for name, way in found.items()),
        *(_WAYS_OF[kind][-1].values(name) for name, kind in unparsed.items()),
        *([pl.when(complaint != "").then(complaint).alias(BAD_CELLS)] if complaint is not None else []),
    )
    return table, empty


class _Way(NamedTuple):
    """A way to read the text of a column as a type.

    Attributes:
        kind: the type.
        parse: text -> value, null if it is none.
        stripped: whether blanks around a cell are taken away before, which takes longer than most parsing.
        exact: whether cells that the value would not give back do not fit.
    """

    kind: ColumnType
    parse: Callable[[pl.Expr], pl.Expr]
    stripped: bool
    exact: bool

    def values(self, name: str) -> pl.Expr:
        """A text column as the type; null where that is not what the cell says."""
        return self.parse(self._cells(name)).alias(name)

    def fits(self, name: str) -> pl.Expr:
        """Whether all cells of a text column can be read this way."""
        cells, values = self._cells(name), self.values(name)
        good = values.is_not_null()
        if self.exact and self.kind == "integer":
            good = values.cast(pl.String) == cells
        if self.exact and self.kind == "float":
            good &= ~cells.str.contains(_NOT_A_NUMBER)
        return (cells.is_null() | good.fill_null(False)).all()

    def tells(self, name: str) -> pl.Expr:
        """The same, but of no cells at all nothing can be told unless the type is declared."""
        return self.fits(name) & (self._cells(name).count() > 0) if self.exact else self.fits(name)

    def _cells(self, name: str) -> pl.Expr:
        return _text(name) if self.stripped else pl.col(name)


def _facts(frame: pl.LazyFrame, ways: Mapping[str, tuple[_Way, ...]]) -> tuple[int, int, dict[str, _Way]]:
    """Rows, rows without a value, and the first way in which all cells of a column can be read; one pass or two.

    A column that has no value, or that none of its ways can read, is not among those found.
    """
    plausible = {name: list(ways[name]) for name in ways}
    # A way that does not fit the first rows needs no try on all the others, and a later one none if an earlier fits.
    for rows in _FIRST_ROWS:
        tried = {(name, way): way.fits(name) for name, left in plausible.items() for way in left}
        fit = _answers(frame.head(rows), tried)
        plausible = {name: [way for way in left if fit[name, way]] for name, left in plausible.items()}
    likeliest = {name: left[0] for name, left in plausible.items() if left}
    asked: dict[Any, pl.Expr] = {"rows": pl.len(), "empty": pl.all_horizontal(pl.all().is_null()).sum()}
    asked |= {(name, "filled"): pl.col(name).count() > 0 for name in likeliest}
    asked |= {(name, way): way.tells(name) for name, way in likeliest.items()}
    frame = report_progress(frame, progress_logger("finding the types", "rows"))
    facts = _answers(frame, asked)
    missed = [name for name, way in likeliest.items() if facts[name, "filled"] and not facts[name, way]]
    facts |= _answers(frame, {(name, way): way.tells(name) for name in missed for way in plausible[name][1:]})
    fitting = {name: [way for way in plausible[name] if facts.get((name, way))] for name in likeliest}
    return int(facts["rows"]), int(facts["empty"]), {name: left[0] for name, left in fitting.items() if left}


def _answers(frame: pl.LazyFrame, asked: Mapping[Any, pl.Expr]) -> dict[Any, Any]:
    if not asked:
        return {}
    row = aggregate(frame.select(expr.alias(str(position)) for position, expr in enumerate(asked.values()))).row(0)
    return dict(zip(asked, row, strict=True))


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


def _integer(text: pl.Expr) -> pl.Expr:
    number = text.cast(pl.Float64, strict=False)
    whole = pl.when(number == number.floor()).then(number).cast(pl.Int64, strict=False)
    return pl.coalesce(text.cast(pl.Int64, strict=False), whole)


def _boolean(text: pl.Expr) -> pl.Expr:
    lower = text.str.to_lowercase()
    return pl.when(lower.is_in(["true", "1"])).then(True).when(lower.is_in(["false", "0"])).then(False)


def _word(text: pl.Expr) -> pl.Expr:
    """A boolean that is no number."""
    lower = text.str.to_lowercase()
    return pl.when(lower.is_in(["true", "false"])).then(lower == "true")


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


def _usual_boolean(text: pl.Expr) -> pl.Expr:
    true, false = text.is_in(["true", "True", "TRUE"]), text.is_in(["false", "False", "FALSE"])
    return pl.when(true | false).then(true)


def _usual_datetime(text: pl.Expr) -> pl.Expr:
    """What :func:`_datetime` makes of a cell without fraction and offset, null for all others."""
    iso = pl.when(text.str.len_bytes() == len("2026-10-31T12:00:00")).then(text.str.replace(" ", "T", literal=True))
    naive = iso.str.to_datetime("%Y-%m-%dT%H:%M:%S", time_unit="us", strict=False, cache=False)
    return naive.dt.replace_time_zone("UTC")


# What most files hold; where one of these reads a cell, the parser of that type reads the same.
_USUAL: dict[ColumnType, Callable[[pl.Expr], pl.Expr]] = {
    "integer": lambda text: text.cast(pl.Int64, strict=False),
    "float": lambda text: text.cast(pl.Float64, strict=False),
    "boolean": _usual_boolean,
    "date": lambda text: text.str.to_date("%Y-%m-%d", strict=False, cache=False),
    "datetime": _usual_datetime,
}
_WAYS_OF: dict[ColumnType, tuple[_Way, ...]] = {
    kind: (
        _Way(kind, usual, stripped=False, exact=False),
        _Way(kind, _PARSERS[kind], stripped=True, exact=False),
    )
    for kind, usual in _USUAL.items()
}
_WAYS_OF_OPEN = tuple(
    way
    for kind, usual in _USUAL.items()
    for way in (
        _Way(kind, usual, stripped=False, exact=True),
        _Way(kind, {"boolean": _word, "datetime": _datetime}.get(kind, usual), stripped=True, exact=True),
    )
)


def _complaint(name: str, kind: ColumnType) -> pl.Expr:
    """What is wrong with a cell, null if nothing is."""
    cell = pl.col(name).str.head(_SHOWN_CHARACTERS)
    shown = pl.format("{}: '{}' is not {}", pl.lit(name), cell, pl.lit(_NOUNS[kind]))
    return pl.when(_text(name).is_not_null() & _PARSERS[kind](_text(name)).is_null()).then(shown)
