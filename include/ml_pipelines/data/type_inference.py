"""Read the rows of a CSV or Parquet file as typed columns, by streaming.

Types of CSV cells, in the order in which an undeclared column tries them:

========== ==========================================================================================
integer    64 bits; a declared integer may also be written as `5.0`
float      64 bits, `inf` and `nan` included
boolean    `true` or `false` in any case; a declared boolean also `1` or `0`
date       `2026-10-31`; a declared date also a datetime at midnight, or text of its declared format
datetime   ISO 8601, a `T` or a space between date and time; without an offset it is UTC
string     the text as it is
========== ==========================================================================================

Some text would change as a number: `007`, or 16 and more digits. Such a cell makes an undeclared column a string. An
empty cell is null, and a record without any value is not a row. A cell that is not of its declared type becomes null;
:mod:`ml_pipelines.data.bad_cells` keeps its text.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import polars as pl

from ml_pipelines._utils.progress import progress_logger
from ml_pipelines.data.bad_cells import bad_cells
from ml_pipelines.data.column_expressions import column
from ml_pipelines.data.column_types import DTYPES, as_text, plain_types
from ml_pipelines.data.date_formats import parse_format
from ml_pipelines.data.source_table import SourceTable
from ml_pipelines.data.streaming import aggregate, report_progress
from ml_pipelines.errors import NoRows
from ml_pipelines.spec.checks import ColumnType

__all__ = [
    "DECLARED_READERS",
    "SAMPLE_ROWS",
    "UNDECLARED_READERS",
    "ParsedTable",
    "TextReader",
    "parse_columns",
]

_Key = TypeVar("_Key", bound=Hashable)

SAMPLE_ROWS = (100, 10_000)
"""How many of the first rows rule out types before the pass over all rows."""

# Text that a float does not reproduce: a code with leading zeros, or more digits than a float holds.
_NOT_A_NUMBER = r"^[+-]?(0\d|\d{16,}$)"


class ParsedTable(NamedTuple):
    """Typed columns, the number of their rows, and that of the empty rows that they lack."""

    frame: pl.LazyFrame
    rows: int
    empty: int


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


def parse_columns(
    source: SourceTable,
    names: Sequence[str],
    declared: Mapping[str, ColumnType],
    key: str | None = None,
    *,
    formats: Mapping[str, str] = MappingProxyType({}),
) -> ParsedTable:
    """Read columns of a source with their types.

    One streaming pass over the rows finds the types, a second one if the first rows were misleading.

    Args:
        source: the checked file.
        names: the columns to read.
        declared: types by name; the other columns of a CSV file get the narrowest type that fits all their cells.
        key: column whose numbers keep all their digits.
        formats: formats of dates in text, by column; the default is ISO 8601.

    Raises:
        NoRows: no row has a value.
        DataError: polars returns another number of rows than the check of the file.
        SourceUnreadable: a column holds lists, structs or other values without a type of :data:`DTYPES`.
    """
    rows = source.scan()
    of_file = rows.collect_schema()
    schema = {name: of_file[name] for name in names}
    if key in schema and schema[key].is_decimal():
        declared = {key: "string", **declared}
    types = plain_types(rows, schema, declared)
    recast = {name: declared[name] for name in schema if name in declared and DTYPES[declared[name]] != types[name]}
    cells = [as_text(name, schema[name]) if name in recast else column(name).cast(types[name]) for name in names]
    parsed = {name: kind for name, kind in recast.items() if kind != "string"}
    undeclared = [name for name in names if source.is_text and name not in declared]
    candidates = dict.fromkeys(undeclared, UNDECLARED_READERS)
    declared_readers = {name: _declared_readers(kind, formats.get(name)) for name, kind in parsed.items()}
    candidates |= declared_readers
    count, empty, readers = _choose_readers(rows.select(cells), candidates)
    source.check_rows(count)
    # A row is empty if no column has a value, those that are not read included.
    empty = _count_empty(rows) if empty else 0
    if count == empty:
        raise NoRows(
            "there are no rows",
            where=source.location,
            expected="at least one row with a value",
            fix="deliver the rows",
        )
    if empty:
        rows = rows.remove(_is_empty())
    # No reader fits all cells of these columns: the most tolerant one reads what it can.
    unfit = {name: declared_readers[name][-1] for name in parsed if name not in readers}
    table = rows.select(cells).with_columns(
        *(reader.values(name) for name, reader in readers.items()),
        *(reader.values(name) for name, reader in unfit.items()),
        *(
            [bad_cells({name: (reader.kind, _bad_text(name, reader)) for name, reader in unfit.items()})]
            if unfit
            else []
        ),
    )
    return ParsedTable(table, count - empty, empty)


def _is_empty() -> pl.Expr:
    return pl.all_horizontal(pl.all().is_null())


def _count_empty(rows: pl.LazyFrame) -> int:
    return int(aggregate(rows.select(_is_empty().sum().alias("empty"))).item())


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
    expressions: dict[Hashable, pl.Expr] = {"rows": pl.len(), "empty": _is_empty().sum()}
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


def _stripped(name: str) -> pl.Expr:
    """Return a cell without the blanks around it, null if nothing is left."""
    text = column(name).str.strip_chars()
    return pl.when(text != "").then(text)


def _integer(text: pl.Expr) -> pl.Expr:
    number = text.cast(pl.Float64, strict=False)
    # From 2**53 on, a float may be another whole number than its text.
    whole = pl.when((number == number.floor()) & (number.abs() < 2.0**53)).then(number).cast(pl.Int64, strict=False)
    digits = text.str.replace(r"\.0*$", "").cast(pl.Int64, strict=False)
    return pl.coalesce(digits, whole)


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


def _declared_readers(kind: ColumnType, form: str | None) -> tuple[TextReader, ...]:
    """Return the readers of a declared type, the most tolerant one last."""
    if form is None:
        return DECLARED_READERS[kind]
    dtype = DTYPES[kind]
    return (TextReader(kind, lambda text: parse_format(text, form).cast(dtype), stripped=True, exact=False),)


def _bad_text(name: str, reader: TextReader) -> pl.Expr:
    """Return the text of a cell that is not of the type, null for all others."""
    text = _stripped(name)
    return pl.when(text.is_not_null() & reader.parse(text).is_null()).then(column(name))
