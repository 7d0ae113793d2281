"""Columns whose values probably mean something else than their type: numbers and dates as text, identifiers, indexes.

Nothing here changes a row. Each finding has the figures, and a declaration to paste. A declared column is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import polars as pl

from ml_pipelines._utils.yaml_quoting import quote_yaml
from ml_pipelines.contracts import JsonValue
from ml_pipelines.data.check_results import CheckResult
from ml_pipelines.data.column_expressions import column
from ml_pipelines.data.date_formats import DateFormat, find_date_formats
from ml_pipelines.data.rule_violations import format_value
from ml_pipelines.data.streaming import aggregate
from ml_pipelines.spec.training import Split

__all__ = ["find_column_findings", "is_id_name"]

Fix = dict[str, JsonValue] | None

MIN_ROWS = 20
"""Fewer cells are too few to judge a column."""

_UNIQUE_SHARE = 0.95
_UNIQUE_SAMPLE = 100_000
_NUMBER_SHARE = 0.9
_MIN_NUMBER_SHARE = 0.5  # if all other cells are words for a missing value
_MAX_EXAMPLES = 3

_CURRENCY = r"(?:[$€£¥₹]|USD|EUR|GBP|CHF|JPY)"
_GROUPED = r"[0-9]{1,3}(?:[,.'\u00a0\u202f ][0-9]{3})+(?:[.,][0-9]+)?"
_PLAIN = r"(?:0|[1-9][0-9]*)(?:[.,][0-9]+)?"
_FORMATTED = rf"^\s*\(?[-+]?\s*{_CURRENCY}?\s*[-+]?(?:{_GROUPED}|{_PLAIN})\s*(?:%|{_CURRENCY})?\)?\s*$"
_CODE = r"^\s*[+-]?(?:0[0-9]|[0-9]{16,}\s*$)"
_MISSING_WORDS = (
    *("n/a", "na", "n.a.", "#n/a", "nan", "null", "nil", "none", "missing", "unknown", "unk", "undefined"),
    *("not available", "not applicable", "-", "--", "?", ".", "*", "(blank)"),
)
_INDEX_NAME = re.compile(
    r"^(unnamed: \d+|__index_level_\d+__|index|level_\d+|rownames?|row_?(id|num|number|nr)?|)$", re.I
)
_ID_NAME = re.compile(r"(^|[^a-z])(id|uuid|guid|key|nr|no|num|number|code|hash)$", re.I)
_CAMEL_ID_NAME = re.compile(r"[a-z](ID|Id|UUID|Key|Nr|No)$")
# Bounds of seconds since 1970 for the years 2001 to 2039. Finer units multiply them by a power of 1000.
_EPOCH = (1_000_000_000, 2_200_000_000)
_EPOCH_UNITS = {"seconds": 1, "milliseconds": 1000, "microseconds": 1000**2, "nanoseconds": 1000**3}


@dataclass(frozen=True, slots=True)
class _TextCounts:
    """Counts of a text column: its filled cells, a sample's different cells and size, and the cells of each form."""

    filled: int
    different: int
    sampled: int
    numbers: int
    formatted: int
    codes: int
    missing_words: int

    @property
    def near_unique(self) -> bool:
        return self.different >= _UNIQUE_SHARE * self.sampled


def find_column_findings(
    table: pl.LazyFrame,
    schema: Mapping[str, pl.DataType],
    *,
    roles: Collection[str | None],
    declared: Collection[str],
    split: Split,
) -> Iterator[CheckResult]:
    """Return the findings about the columns of a table, by streaming.

    Args:
        table: the rows.
        schema: types by column.
        roles: key, group and target.
        declared: columns with a declared type. Only the finding `time_split` looks at them.
        split: the rule of the split.
    """
    names = [name for name in schema if name not in (*roles, *declared)]
    rows = int(aggregate(table.select(pl.len())).item())
    texts = _text_counts(table, [name for name in names if schema[name] == pl.String], rows)
    formats = {
        name: find_date_formats(table, name)
        for name, counts in texts.items()
        if counts.filled >= MIN_ROWS and _number_share(counts) < _NUMBER_SHARE
    }
    times = [name for name, dtype in schema.items() if dtype.is_temporal() and name not in roles]
    times += [name for name, matches in formats.items() if matches]
    for name, counts in texts.items():
        if counts.filled >= MIN_ROWS:
            yield from _text_findings(table, name, counts, formats.get(name, []))
    for name in names:
        if schema[name].is_integer():
            for result in _integer_findings(table, name, rows):
                times += [name] if result.check == "timestamp" else []
                yield result
    yield from _time_split(times, split)


def is_id_name(name: str) -> bool:
    """Return whether a column is called as columns of identifiers are, such as `customer_id`."""
    return bool(_ID_NAME.search(name) or _CAMEL_ID_NAME.search(name))


def _text_counts(table: pl.LazyFrame, names: list[str], rows: int) -> dict[str, _TextCounts]:
    if not names:
        return {}
    expressions = [count for name in names for count in _count_forms(name, rows)]
    numbered = (expression.alias(str(position)) for position, expression in enumerate(expressions))
    values = [int(value or 0) for value in aggregate(table.select(numbered)).row(0)]
    width = len(_TextCounts.__slots__)
    return {name: _TextCounts(*values[place * width : (place + 1) * width]) for place, name in enumerate(names)}


def _count_different(name: str, rows: int) -> list[pl.Expr]:
    """Count a sample and its different cells. A value is in the sample with all its cells or with none."""
    cells = column(name).drop_nulls()
    sample = cells.filter(cells.hash(0) % max(rows // _UNIQUE_SAMPLE, 1) == 0)
    return [sample.n_unique(), sample.len()]


def _count_forms(name: str, rows: int) -> list[pl.Expr]:
    cells = column(name)
    code = cells.str.contains(_CODE)
    number = _is_number(name) & ~code
    formatted = cells.str.contains(_FORMATTED) & ~number & ~code
    sums = [expression.sum() for expression in (number, formatted, code, _missing_word(cells))]
    return [cells.count(), *_count_different(name, rows), *sums]


def _missing_word(cells: pl.Expr) -> pl.Expr:
    words = cells.str.strip_chars().str.to_lowercase()
    return words.is_in(_MISSING_WORDS) | (words == "")


def _number_share(counts: _TextCounts) -> float:
    return (counts.numbers + counts.formatted) / max(counts.filled, 1)


def _text_findings(
    table: pl.LazyFrame, name: str, counts: _TextCounts, formats: list[DateFormat]
) -> Iterator[CheckResult]:
    share = _number_share(counts)
    rest_is_missing = counts.numbers + counts.formatted + counts.missing_words >= counts.filled
    if not counts.codes and (share >= _NUMBER_SHARE or (rest_is_missing and share >= _MIN_NUMBER_SHARE)):
        yield _almost_numeric(table, name, counts)
    elif formats:
        yield _date_text(name, counts, formats)
    elif counts.near_unique:
        detail = f"{name} has {counts.different} different texts in {_cells(counts.sampled)}, so it identifies rows"
        yield _finding("identifier", name, detail, _ignore_or_key(name), fix=_ignored(name))


def _almost_numeric(table: pl.LazyFrame, name: str, counts: _TextCounts) -> CheckResult:
    quoted = quote_yaml(name)
    cells = column(name)
    others = table.filter(cells.is_not_null() & ~_is_number(name)).select(cells.alias("cell"))
    examples = aggregate(
        others.group_by("cell").len().sort(["len", "cell"], descending=[True, False]).head(_MAX_EXAMPLES)
    )
    shown = ", ".join(f"{format_value(cell)} ({_cells(count)})" for cell, count in examples.rows())
    detail = f"{name}: {counts.numbers} of {_cells(counts.filled)} are numbers, others are not: {shown}"
    fix: Fix = None
    keep = f"To keep the text: `data: {{columns: {{{quoted}: {{type: string}}}}}}`."
    if counts.formatted:
        detail += f"; {counts.formatted} are numbers with signs or separators"
        remedy = "Deliver numbers without signs for money, percent and thousands, and with a decimal point."
    else:
        remedy = (
            f"To read numbers, with the other cells as missing: `data: {{columns: {{{quoted}: "
            "{type: float, on_fail: warn}}}`."
        )
        fix = {"columns": {name: {"type": "float", "on_fail": "warn"}}}
    return _finding("almost_numeric", name, detail, f"{remedy} {keep}", fix=fix)


def _is_number(name: str) -> pl.Expr:
    """Return whether a text cell is a number; null for a missing cell."""
    cells = column(name)
    return cells.str.strip_chars().cast(pl.Float64, strict=False).is_not_null() & ~_missing_word(cells)


def _date_text(name: str, counts: _TextCounts, formats: list[DateFormat]) -> CheckResult:
    first = formats[0]
    texts = " or ".join(match.format for match in formats)
    detail = f"{name}: {first.cells} of {counts.filled} cells are dates of the format {texts}, and are read as text"
    if len(formats) > 1:
        detail += "; the cells fit each of these formats"
    # Without it, a cell that is no date would stop the run.
    on_fail = ", on_fail: warn" if first.cells < counts.filled else ""
    declared = "; or ".join(
        f"`data: {{columns: {{{quote_yaml(name)}: "
        f"{{type: {match.kind}, format: {quote_yaml(match.format)}{on_fail}}}}}}}`"
        for match in formats
    )
    likely: dict[str, JsonValue] = {
        "type": first.kind,
        "format": first.format,
        **({"on_fail": "warn"} if on_fail else {}),
    }
    fix: Fix = {"columns": {name: likely}} if len(formats) == 1 else None
    return _finding("date_text", name, detail, f"Declare the format: {declared}.", fix=fix)


def _integer_findings(table: pl.LazyFrame, name: str, rows: int) -> Iterator[CheckResult]:
    cells = column(name)
    month, day = cells // 100 % 100, cells % 100
    calendar = cells.is_between(19000101, 21001231) & month.is_between(1, 12) & day.is_between(1, 31)
    expressions = [cells.count(), *_count_different(name, rows), cells.min(), cells.max(), calendar.all()]
    numbered = (expression.alias(str(position)) for position, expression in enumerate(expressions))
    filled, different, sampled, low, high, is_calendar = aggregate(table.select(numbered)).row(0)
    if filled < MIN_ROWS:
        return
    near_unique = different >= _UNIQUE_SHARE * sampled
    figures = f"{name} has {different} different whole numbers in {_cells(sampled)}"
    if near_unique and (high - low + 1 == filled or _INDEX_NAME.match(name)):
        yield _finding(
            "index",
            name,
            f"{figures}, from {low} to {high}: it numbers the rows",
            _ignore_or_key(name),
            fix=_ignored(name),
        )
    elif near_unique and is_id_name(name):
        yield _finding("identifier", name, f"{figures}: it identifies rows", _ignore_or_key(name), fix=_ignored(name))
    elif is_calendar:
        declared = f'{quote_yaml(name)}: {{type: date, format: "%Y%m%d"}}'
        detail = f"{name}: all {filled} cells are dates written as numbers, such as {low}"
        fix: Fix = {"columns": {name: {"type": "date", "format": "%Y%m%d"}}}
        remedy = f"Declare the format: `data: {{columns: {{{declared}}}}}`."
        yield _finding("timestamp", name, detail, remedy, fix=fix)
    else:
        for unit, factor in _EPOCH_UNITS.items():
            if _EPOCH[0] * factor <= low and high < _EPOCH[1] * factor and different > 2:
                detail = f"{name}: all {filled} cells may be times in {unit} since 1970, from {low} to {high}"
                remedy = f"Deliver a time as text of ISO 8601, or leave it out: {_ignore(name)}."
                yield _finding("timestamp", name, detail, remedy, fix=_ignored(name))


def _time_split(times: list[str], split: Split) -> Iterator[CheckResult]:
    if not times or split.method == "time":
        return
    name, *others = times
    more = f" ({', '.join(others)} too)" if others else ""
    detail = f"{name} is a time{more}, but the split by {split.method} trains on rows that are later than test rows"
    remedy = (
        f"To test on the latest rows: `split: {{method: time, column: {quote_yaml(name)}}}`. "
        "If the time does not order the rows, such as a date of birth, no change is needed."
    )
    yield _finding("time_split", name, detail, remedy)


def _cells(count: int) -> str:
    return "1 cell" if count == 1 else f"{count} cells"


def _ignore_or_key(name: str) -> str:
    return f"Leave it out: {_ignore(name)}. If it is the key: `data: {{key: {quote_yaml(name)}}}`."


def _ignore(name: str) -> str:
    return f"`data: {{ignore: [{quote_yaml(name)}]}}`"


def _ignored(name: str) -> Fix:
    return {"ignore": [name]}


def _finding(check: str, name: str, detail: str, remedy: str, *, fix: Fix = None) -> CheckResult:
    return CheckResult(check=check, column=name, severity="warn", passed=False, detail=detail, remedy=remedy, fix=fix)
