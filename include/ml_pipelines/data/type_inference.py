"""Read the rows of a CSV or Parquet file as typed columns, by streaming.

Types of CSV cells, in the order in which an undeclared column tries them:

========== ==========================================================================================
integer    64 bits; a declared integer may also be written as `5.0`
float      64 bits, `inf` and `nan` included
boolean    `true` or `false` in any case; a declared boolean also `1` or `0`
date       `2026-10-31`; a declared date also a datetime at midnight
datetime   ISO 8601, a `T` or a space between date and time; without an offset it is UTC
string     the text as it is
========== ==========================================================================================

Some text would change as a number: `007`, or 16 and more digits. Such a cell makes an undeclared column a string. An
empty cell is null, and a record without any value is not a row. A cell that is not of its declared type becomes null;
:mod:`ml_pipelines.data.bad_cells` keeps its text.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple, TypeVar

import polars as pl

from ml_pipelines._utils.progress import progress_logger
from ml_pipelines.data.bad_cells import bad_cells
from ml_pipelines.data.columns import column
from ml_pipelines.data.csv_checks import csv_header
from ml_pipelines.data.streaming import aggregate, report_progress
from ml_pipelines.errors import NoRows, SourceUnreadable
from ml_pipelines.spec.training import ColumnType

__all__ = [
    "DECLARED_READERS",
    "DTYPES",
    "SAMPLE_ROWS",
    "UNDECLARED_READERS",
    "TextReader",
    "parse_columns",
    "scan_source",
]

_Key = TypeVar("_Key", bound=Hashable)

DTYPES: dict[ColumnType, pl.DataType] = {
    "integer": pl.Int64(),
    "float": pl.Float64(),
    "boolean": pl.Boolean(),
    "date": pl.Date(),
    "datetime": pl.Datetime("us", "UTC"),
    "string": pl.String(),
}
SAMPLE_ROWS = (100, 10_000)
"""How many of the first rows rule out types before the pass over all rows."""

# Text that a float does not reproduce: a code with leading zeros, or more digits than a float holds.
_NOT_A_NUMBER = r"^[+-]?(0\d|\d{16,}$)"


class TextReader(NamedTuple):
    """One way to read the text of a column as a type.

    Attributes:
        kind: the type.
        parse: text -> value, null if the text is not of the type.
        stripped: whether blanks around a cell are removed first, which takes longer than most parsing.
        exact: whether a cell that the value does not reproduce is not of the type.
    """

    kind: ColumnType
    parse: Callable[[pl.Expr], pl.Expr]
    stripped: bool
    exact: bool

    def values(self, name: str) -> pl.Expr:
        """Return a text column as the type; null where a cell is not of the type."""
        return self.parse(self._cells(name)).alias(name)

    def fits(self, name: str) -> pl.Expr:
        """Return whether all cells of a text column are of the type."""
        cells, values = self._cells(name), self.values(name)
        good = values.is_not_null()
        if self.exact and self.kind == "integer":
            good = values.cast(pl.String) == cells
        if self.exact and self.kind == "float":
            good &= ~cells.str.contains(_NOT_A_NUMBER)
        return (cells.is_null() | good.fill_null(False)).all()

    def identifies(self, name: str) -> pl.Expr:
        """Return whether the column has this type: an undeclared column without cells has none."""
        return self.fits(name) & (self._cells(name).count() > 0) if self.exact else self.fits(name)

    def _cells(self, name: str) -> pl.Expr:
        return _stripped(name) if self.stripped else column(name)


def _is_csv(path: str) -> bool:
    return path.endswith(".csv")


def scan_source(path: str) -> pl.LazyFrame:
    """Scan a local file, `.csv` or `.parquet`. All cells of a CSV file are text; an empty cell is null."""
    if not _is_csv(path):
        return pl.scan_parquet(path, glob=False)
    frame = pl.scan_csv(path, infer_schema=False, glob=False, with_column_names=lambda names: _unquoted(names, path))
    return frame.with_columns(pl.when(pl.all() != "").then(pl.all()))


def _unquoted(names: list[str], path: str) -> list[str]:
    """Return the column names with single quotes for doubled ones, which polars keeps in a header."""
    return csv_header(path) if any('""' in name for name in names) else names


def parse_columns(frame: pl.LazyFrame, declared: Mapping[str, ColumnType], path: str) -> tuple[pl.LazyFrame, int]:
    """Return the frame with typed columns and the number of empty rows that it leaves out.

    One streaming pass over the rows finds the types, a second one if the first rows were misleading.

    Args:
        frame: the result of :func:`scan_source`, or some columns of it.
        declared: types by name; the other columns of a CSV file get the narrowest type that fits all their cells.
        path: of the file.

    Raises:
        NoRows: no row has a value.
        SourceUnreadable: a column holds lists, structs or other values without a type of :data:`DTYPES`.
    """
    schema = {name: _plain(name, dtype) for name, dtype in frame.collect_schema().items()}
    recast = {name: declared[name] for name in schema if name in declared and DTYPES[declared[name]] != schema[name]}
    frame = frame.select(
        _as_text(name, dtype) if name in recast else column(name).cast(dtype) for name, dtype in schema.items()
    )
    parsed = {name: kind for name, kind in recast.items() if kind != "string"}
    undeclared = [name for name in schema if _is_csv(path) and name not in declared]
    candidates = dict.fromkeys(undeclared, UNDECLARED_READERS)
    candidates |= {name: DECLARED_READERS[kind] for name, kind in parsed.items()}
    rows, empty, readers = _choose_readers(frame, candidates)
    if rows == empty:
        raise NoRows("there are no rows", expected="at least one row with a value", fix="deliver the rows")
    if empty:
        frame = frame.remove(pl.all_horizontal(pl.all().is_null()))
    # No reader fits all cells of these columns: the most tolerant one reads what it can.
    unfit = {name: kind for name, kind in parsed.items() if name not in readers}
    table = frame.with_columns(
        *(reader.values(name) for name, reader in readers.items()),
        *(DECLARED_READERS[kind][-1].values(name) for name, kind in unfit.items()),
        *([bad_cells({name: (kind, _bad_text(name, kind)) for name, kind in unfit.items()})] if unfit else []),
    )
    return table, empty


def _choose_readers(
    frame: pl.LazyFrame, candidates: Mapping[str, tuple[TextReader, ...]]
) -> tuple[int, int, dict[str, TextReader]]:
    """Return the number of rows, of empty rows, and by column the first candidate that reads all cells.

    A column without any value, or that no candidate reads, has no reader.
    """
    plausible = {name: list(readers) for name, readers in candidates.items()}
    # A reader that does not fit the first rows needs no pass over all rows.
    for rows in SAMPLE_ROWS:
        tests = {(name, reader): reader.fits(name) for name, readers in plausible.items() for reader in readers}
        fits = _evaluate(frame.head(rows), tests)
        plausible = {name: [reader for reader in readers if fits[name, reader]] for name, readers in plausible.items()}
    likeliest = {name: readers[0] for name, readers in plausible.items() if readers}
    expressions: dict[Hashable, pl.Expr] = {"rows": pl.len(), "empty": pl.all_horizontal(pl.all().is_null()).sum()}
    expressions |= {(name, "filled"): column(name).count() > 0 for name in likeliest}
    expressions |= {(name, reader): reader.identifies(name) for name, reader in likeliest.items()}
    frame = report_progress(frame, progress_logger("finding the types", "rows"))
    results = _evaluate(frame, expressions)
    misfits = [name for name, reader in likeliest.items() if results[name, "filled"] and not results[name, reader]]
    others = [(name, reader) for name in misfits for reader in plausible[name][1:]]
    results |= _evaluate(frame, {(name, reader): reader.identifies(name) for name, reader in others})
    fitting = {name: [reader for reader in plausible[name] if results.get((name, reader))] for name in likeliest}
    chosen = {name: readers[0] for name, readers in fitting.items() if readers}
    return int(results["rows"]), int(results["empty"]), chosen


def _evaluate(frame: pl.LazyFrame, expressions: Mapping[_Key, pl.Expr]) -> dict[_Key, Any]:
    """Evaluate aggregations in one pass."""
    if not expressions:
        return {}
    numbered = (expression.alias(str(position)) for position, expression in enumerate(expressions.values()))
    return dict(zip(expressions, aggregate(frame.select(numbered)).row(0), strict=True))


def _plain(name: str, dtype: pl.DataType) -> pl.DataType:
    """Return the type of :data:`DTYPES` for the type that the file has."""
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
        f"the column {name!r} has the type {dtype}",
        expected=f"one of {', '.join(DTYPES)}",
        fix="add it to data.ignore, or split it into columns of single values",
    )


def _as_text(name: str, dtype: pl.DataType) -> pl.Expr:
    """Return the text of a column whose declared type differs from that of the file. NaN is missing, as in pandas."""
    values = column(name).cast(dtype)
    return (values.fill_nan(None) if dtype.is_float() else values).cast(pl.String)


def _stripped(name: str) -> pl.Expr:
    """Return a cell without the blanks around it, null if nothing is left."""
    text = column(name).str.strip_chars()
    return pl.when(text != "").then(text)


def _integer(text: pl.Expr) -> pl.Expr:
    number = text.cast(pl.Float64, strict=False)
    whole = pl.when(number == number.floor()).then(number).cast(pl.Int64, strict=False)
    return pl.coalesce(text.cast(pl.Int64, strict=False), whole)


def _boolean(text: pl.Expr) -> pl.Expr:
    lower = text.str.to_lowercase()
    return pl.when(lower.is_in(["true", "1"])).then(True).when(lower.is_in(["false", "0"])).then(False)


def _boolean_word(text: pl.Expr) -> pl.Expr:
    """Parse a boolean that is not written as a number."""
    lower = text.str.to_lowercase()
    return pl.when(lower.is_in(["true", "false"])).then(lower == "true")


def _datetime(text: pl.Expr) -> pl.Expr:
    """Parse ISO 8601. The common lengths go first, because fractions and offsets are slow to parse."""
    iso = text.str.replace(" ", "T", literal=True).str.strip_suffix("Z")
    formats = {10: "%Y-%m-%d", 16: "%Y-%m-%dT%H:%M", 19: "%Y-%m-%dT%H:%M:%S"}
    rest = pl.when(~iso.str.len_bytes().is_in(list(formats))).then(iso)
    forms = [(pl.when(iso.str.len_bytes() == size).then(iso), form) for size, form in formats.items()]
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


def _common_boolean(text: pl.Expr) -> pl.Expr:
    true, false = text.is_in(["true", "True", "TRUE"]), text.is_in(["false", "False", "FALSE"])
    return pl.when(true | false).then(true)


def _common_datetime(text: pl.Expr) -> pl.Expr:
    """Parse a cell without fraction and offset as :func:`_datetime` does; null for all others."""
    iso = pl.when(text.str.len_bytes() == len("2026-10-31T12:00:00")).then(text.str.replace(" ", "T", literal=True))
    naive = iso.str.to_datetime("%Y-%m-%dT%H:%M:%S", time_unit="us", strict=False, cache=False)
    return naive.dt.replace_time_zone("UTC")


# The formats of most files. Where one of these parses a cell, the parser of that type in _PARSERS gives the same value.
_COMMON_PARSERS: dict[ColumnType, Callable[[pl.Expr], pl.Expr]] = {
    "integer": lambda text: text.cast(pl.Int64, strict=False),
    "float": lambda text: text.cast(pl.Float64, strict=False),
    "boolean": _common_boolean,
    "date": lambda text: text.str.to_date("%Y-%m-%d", strict=False, cache=False),
    "datetime": _common_datetime,
}
# The parsers of undeclared columns that differ from the common ones.
_EXACT_PARSERS: dict[ColumnType, Callable[[pl.Expr], pl.Expr]] = {"boolean": _boolean_word, "datetime": _datetime}
DECLARED_READERS: dict[ColumnType, tuple[TextReader, ...]] = {
    kind: (
        TextReader(kind, common, stripped=False, exact=False),
        TextReader(kind, _PARSERS[kind], stripped=True, exact=False),
    )
    for kind, common in _COMMON_PARSERS.items()
}
"""The readers of a declared type, the fastest first; the last one reads every form of it."""
UNDECLARED_READERS = tuple(
    reader
    for kind, common in _COMMON_PARSERS.items()
    for reader in (
        TextReader(kind, common, stripped=False, exact=True),
        TextReader(
            kind, {"boolean": _boolean_word, "datetime": _datetime}.get(kind, common), stripped=True, exact=True
        ),
    )
)
"""The readers of an undeclared column, the narrowest type first."""


def _bad_text(name: str, kind: ColumnType) -> pl.Expr:
    """Return the text of a cell that is not of the type, null for all others."""
    text = _stripped(name)
    return pl.when(text.is_not_null() & _PARSERS[kind](text).is_null()).then(column(name))
