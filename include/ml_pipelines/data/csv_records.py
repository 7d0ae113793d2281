"""Read the records of a CSV file by Python's `csv`, with their lines, and rewrite a file that is not plain."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple, TextIO

from ml_pipelines.data.csv_structure import MAX_CELL
from ml_pipelines.errors import SourceUnreadable

__all__ = ["csv_header", "csv_records", "rewrite_csv"]

_MAX_LINE = 16 * MAX_CELL
_MAX_SHOWN = 200
_END = "end"  # after the last line: it is a record of its own, unless a quote is open


class Record(NamedTuple):
    """The cells of a record, and its first line. A blank line has no cells."""

    line: int
    cells: list[str]


def csv_header(path: str, location: str) -> list[str]:
    """Return the column names of a CSV file.

    Args:
        path: local file, UTF-8 text.
        location: name of the file in errors.

    Raises:
        SourceUnreadable: the file has no header, or the header has unnamed or repeated columns.
    """
    where = f"{location}:1"
    names = next(csv_records(path, location), Record(1, [])).cells
    if not any(name.strip() for name in names):
        raise SourceUnreadable(
            "the file has no header", where=where, got="an empty line", fix="name the columns in the first line"
        )
    if len(names) == 1 and (separator := next((mark for mark in ";\t|" if mark in names[0]), None)):
        raise SourceUnreadable(
            "the cells are not separated by commas",
            where=where,
            got=repr(separator),
            fix="save the file with commas between the cells",
        )
    got = ",".join(names)[:_MAX_SHOWN]
    if unnamed := [position for position, name in enumerate(names, 1) if not name.strip()]:
        raise SourceUnreadable(f"column {unnamed[0]} has no name", where=where, got=got, fix="name or remove it")
    if repeated := [name for name, number in Counter(names).items() if number > 1]:
        raise SourceUnreadable(
            f"several columns are called {repeated[0]!r}", where=where, got=got, fix="give each column its own name"
        )
    return names


def rewrite_csv(path: str, location: str, target: str) -> tuple[int, int]:
    """Write the records of a CSV file to a plain file.

    Args:
        path: local file, UTF-8 text.
        location: name of the file in errors.
        target: path of the plain file.

    Returns:
        Number of lines after the header, and how many of them are blank.

    Raises:
        SourceUnreadable: a record is not as wide as the header, or a quote is not closed. The error has the line.
    """
    lines = blank = columns = 0
    with Path(target).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
        for record in csv_records(path, location):
            columns = columns or len(record.cells)
            if record.cells and len(record.cells) != columns:
                raise _wrong_width(record, columns, location)
            writer.writerow(record.cells)
            lines += 1
            blank += not record.cells
    return lines - 1, blank


def csv_records(path: str, location: str) -> Iterator[Record]:
    """Yield all records. A stray quote inside an unquoted cell is text, as in Excel and pandas.

    Raises:
        SourceUnreadable: a quote is not closed, or a cell or line is too long. The error has the line.
    """
    csv.field_size_limit(max(csv.field_size_limit(), MAX_CELL))
    line, raw = 1, list[str]()
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        try:
            for cells in csv.reader(_lines(file, raw, location)):
                if len(raw) > 1:
                    _check_several_lines(raw, line, cells, location)
                if raw[-1] is _END:
                    return
                yield Record(line, cells)
                line += len(raw)
                raw.clear()
        except csv.Error as exc:
            raise SourceUnreadable(
                f"line {line} has a cell of more than {MAX_CELL:,} characters",
                where=f"{location}:{line}",
                expected="shorter cells",
                got=str(exc),
                fix="shorten the cell; a quote that is not closed also makes one cell of the rest of the file",
            ) from exc


def _lines(file: TextIO, raw: list[str], location: str) -> Iterator[str]:
    """Yield the lines and a last line `_END`, and append each to `raw`."""
    for number in count(1):
        line = file.readline(_MAX_LINE)
        if len(line) == _MAX_LINE:
            raise SourceUnreadable(
                f"line {number} has more than {_MAX_LINE:,} characters",
                where=f"{location}:{number}",
                expected="one record in a line",
                fix="end each record with a line feed",
            )
        raw.append(line or _END)
        yield raw[-1]
        if not line:
            return


def _check_several_lines(raw: Sequence[str], line: int, cells: Sequence[str], location: str) -> None:
    """Refuse a record of several lines that may be several records, joined by a stray quote."""
    open_at_end = raw[-1] is _END
    if not open_at_end:
        try:
            next(csv.reader(raw, strict=True))
        except csv.Error:
            pass
        else:
            return
    position = next((number for number, cell in enumerate(cells, 1) if "\n" in cell or "\r" in cell), len(cells))
    last = line + len(raw) - 1
    raise SourceUnreadable(
        f"the quote at the start of cell {position} of line {line} is not closed"
        if open_at_end
        else f"the quote at the start of cell {position} of line {line} is closed within a cell of line {last}",
        where=f"{location}:{line}",
        expected="a quote before a comma or the end of the line",
        got=raw[0].rstrip("\r\n")[:_MAX_SHOWN],
        fix="close the quote; double a quote that belongs to the text, and put the cell in quotes",
    )


def _wrong_width(record: Record, columns: int, location: str) -> SourceUnreadable:
    return SourceUnreadable(
        f"line {record.line} has {len(record.cells)} cells and the header {columns}",
        where=f"{location}:{record.line}",
        expected=f"{columns} cells",
        got=",".join(record.cells)[:_MAX_SHOWN],
        fix="correct the line; quote a cell that holds a comma, a quote or a line break",
    )
