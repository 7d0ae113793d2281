"""Formats of dates in text: find those that fit a column, and read a column by a declared one."""

from __future__ import annotations

import re
from itertools import product
from typing import Literal, NamedTuple

import polars as pl

from ml_pipelines.data.column_expressions import column
from ml_pipelines.data.streaming import aggregate

__all__ = ["DateFormat", "find_date_formats", "parse_format"]

_DATES = (
    *("%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d.%m.%Y", "%m.%d.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y-%m-%d"),
    *("%d/%m/%y", "%m/%d/%y", "%d.%m.%y", "%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y"),
)
_TIMES = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
_SHAPES = {
    **dict.fromkeys(("%d", "%m", "%H", "%I"), "[0-9]{1,2}"),
    **dict.fromkeys(("%y", "%M", "%S"), "[0-9]{2}"),
    "%Y": "[0-9]{4}",
    "%b": "[A-Za-z]{3}",
    "%B": "[A-Za-z]{3,9}",
    "%p": "[AaPp][Mm]",
}
_SHARE = 0.9
_SAMPLE_ROWS = 1000
_DIGIT = r"[0-9]"


class DateFormat(NamedTuple):
    """A format, and the number of cells of a column that it fits."""

    format: str
    kind: Literal["date", "datetime"]
    cells: int


def find_date_formats(table: pl.LazyFrame, name: str) -> list[DateFormat]:
    """Return the formats that fit most cells of a text column: several if day and month are ambiguous.

    Args:
        table: the rows.
        name: of a text column.
    """
    cells = table.select(column(name).alias("cell")).drop_nulls()
    sample = aggregate(cells.filter(pl.col("cell").str.contains(_DIGIT)).head(_SAMPLE_ROWS))["cell"]
    if sample.is_empty():
        return []
    formats = [f"{date}{time}" for date, time in product(_DATES, _TIMES)]
    likely = [form for form in formats if _matches(sample, form) >= _SHARE * len(sample)]
    if not likely:
        return []
    fits = [_fits(form).sum().alias(str(place)) for place, form in enumerate(likely)]
    total, *counts = aggregate(cells.select(pl.len().alias("total"), *fits)).row(0)
    best = max(counts)
    return [
        DateFormat(form, _kind(form), count)
        for form, count in zip(likely, counts, strict=True)
        if count == best and count >= _SHARE * total
    ]


def parse_format(cells: pl.Expr, form: str) -> pl.Expr:
    """Return texts as dates, or as datetimes in UTC if the format has a time; null where it does not fit."""
    text = cells.str.strip_chars()
    if _kind(form) == "date":
        return text.str.to_date(form, strict=False, cache=False)
    moments = text.str.to_datetime(form, time_unit="us", strict=False, cache=False)
    return moments if "%z" in form else moments.dt.replace_time_zone("UTC")


def _matches(sample: pl.Series, form: str) -> int:
    return int(sample.to_frame().select(_fits(form).sum()).item())


def _fits(form: str) -> pl.Expr:
    """Return whether a cell is of a format, with all digits of its year: `1.2.3` is a version."""
    shape = "".join(_SHAPES.get(part, re.escape(part)) for part in re.findall(r"%.|[^%]", form))
    return pl.col("cell").str.contains(rf"^\s*{shape}\s*$") & parse_format(pl.col("cell"), form).is_not_null()


def _kind(form: str) -> Literal["date", "datetime"]:
    return "datetime" if any(part in form for part in ("%H", "%I", "%T", "%R", "%X", "%s")) else "date"
