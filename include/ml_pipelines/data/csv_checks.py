"""Check a CSV file before it is parsed."""

from __future__ import annotations

import codecs
import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from ml_pipelines._utils.progress import progress_logger
from ml_pipelines.errors import NoRows, SourceUnreadable

__all__ = ["BLOCK_BYTES", "check_csv", "csv_header", "source_error"]

BLOCK_BYTES = 1 << 22
"""How many bytes of a file are read at a time."""
_MAX_CELL_CHARACTERS = 1 << 24


def check_csv(path: str) -> None:
    """Check the bytes of a CSV file, in constant memory.

    Args:
        path: local file, comma-separated, UTF-8 with or without a byte order mark, with a header.

    Raises:
        NoRows: the file has a header only.
        SourceUnreadable: the file is empty, not UTF-8 or has NUL bytes; the header has unnamed or repeated columns;
            or a line has more or fewer cells than the header. The error has the line and the fix.
    """
    records, separators, balanced = _scan(path)
    names = csv_header(path)
    if not _has_rows(path):
        raise NoRows("the file has a header and no rows", where=path, fix="deliver the rows as well")
    if not balanced or separators != records * (len(names) - 1):
        _check_lines(path, len(names))


def source_error(error: pl.exceptions.PolarsError, path: str) -> SourceUnreadable:
    """Return the error for a source that polars can't read: that of :func:`check_csv` if it raises one.

    Args:
        error: of polars, at any stage of the query.
        path: the local file, CSV or Parquet.
    """
    if path.endswith(".csv"):
        try:
            check_csv(path)
        except SourceUnreadable as exc:
            return exc
        fix = "quote cells that hold commas, quotes or line breaks, and double the quotes inside them"
        return SourceUnreadable("the file can't be read as CSV", where=path, got=_first_line(error), fix=fix)
    return SourceUnreadable(
        "the file can't be read as Parquet", where=path, got=_first_line(error), fix="write the file again"
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _scan(path: str) -> tuple[int, int, bool]:
    """Return the number of records and of separators between cells, and whether all quotes are closed."""
    records = separators = quotes = 0
    last = b""
    for block in _text_blocks(path):
        data = np.frombuffer(block, dtype=np.uint8)
        if quotes % 2 or b'"' in block:
            quoted = data == ord('"')
            data = data[(np.cumsum(quoted, dtype=np.uint8) + np.uint8(quotes % 2)) % 2 == 0]
            quotes += int(np.count_nonzero(quoted))
        records += int(np.count_nonzero(data == ord("\n")))
        separators += int(np.count_nonzero(data == ord(",")))
        last = block[-1:]
    if not last:
        raise SourceUnreadable("the file is empty", where=path, fix="deliver a file with a header and rows")
    return records + (last != b"\n"), separators, quotes % 2 == 0


def _text_blocks(path: str) -> Iterator[bytes]:
    """Yield the blocks of a file, checked to be UTF-8 without NUL. A block may end within a character."""
    decode = codecs.getincrementaldecoder("utf-8")().decode
    offset, in_character = 0, False
    advance = progress_logger("checking the file", "bytes", Path(path).stat().st_size)
    with Path(path).open("rb") as file:
        while True:
            block = file.read(BLOCK_BYTES)
            if b"\0" in block:
                raise _not_text(path, offset + block.index(b"\0"), "a NUL byte")
            # An ASCII block needs no decoding, unless the block before may have ended within a character.
            if in_character or not block.isascii():
                try:
                    decode(block, final=not block)
                except UnicodeDecodeError as exc:
                    # The decoder's input begins with the bytes that it kept of the block before.
                    at = offset + len(block) - len(exc.object) + exc.start
                    raise _not_text(path, at, f"byte 0x{exc.object[exc.start]:02X}") from exc
            if not block:
                return
            in_character = block[-1] >= 0x80
            offset += len(block)
            advance(len(block))
            yield block


def _not_text(path: str, offset: int, got: str) -> SourceUnreadable:
    with Path(path).open("rb") as file:
        encoding = "UTF-16" if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "WINDOWS-1252"
        file.seek(0)
        line = 1 + sum(file.read(min(BLOCK_BYTES, offset - at)).count(b"\n") for at in range(0, offset, BLOCK_BYTES))
    return SourceUnreadable(
        f"line {line} is not UTF-8 text",
        where=f"{path}:{line}",
        expected="a CSV file in UTF-8",
        got=got,
        fix=f"save the file as UTF-8, for example with: iconv -f {encoding} -t UTF-8",
    )


def csv_header(path: str) -> list[str]:
    """Return the column names of a CSV file.

    Raises:
        SourceUnreadable: the file has no header, or the header has unnamed or repeated columns.
    """
    with Path(path).open("rb") as file:
        first = file.readline(BLOCK_BYTES).rstrip(b"\r\n")
    if b"\r" in first and b'"' not in first:
        raise SourceUnreadable(
            "the lines end with a carriage return alone",
            where=f"{path}:1",
            expected="a line feed at the end of each line, with or without a carriage return before it",
            fix=r"write the file again, for example with: tr '\r' '\n'",
        )
    line, names = next(_records(path), (1, []))
    if line > 1 or not any(name.strip() for name in names):
        raise SourceUnreadable(
            "the file has no header", where=f"{path}:1", got="an empty line", fix="name the columns in the first line"
        )
    if len(names) == 1 and (separator := next((mark for mark in ";\t|" if mark in names[0]), None)):
        raise SourceUnreadable(
            "the cells are not separated by commas",
            where=f"{path}:1",
            got=repr(separator),
            fix="save the file with commas between the cells",
        )
    if unnamed := [position for position, name in enumerate(names, 1) if not name.strip()]:
        raise SourceUnreadable(
            f"column {unnamed[0]} has no name", where=f"{path}:1", got=",".join(names), fix="name or remove it"
        )
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise SourceUnreadable(
            f"several columns are called {repeated[0]!r}",
            where=f"{path}:1",
            got=",".join(names),
            fix="give each column its own name",
        )
    return names


def _records(path: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each record with its first line; empty lines are left out."""
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_CELL_CHARACTERS))
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        line = 1
        for record in reader:
            if record:
                yield line, record
            line = reader.line_num + 1


def _has_rows(path: str) -> bool:
    records = _records(path)
    next(records)
    return next(records, None) is not None


def _check_lines(path: str, columns: int) -> None:
    line = 1
    try:
        for line, record in _records(path):
            if len(record) != columns:
                raise SourceUnreadable(
                    f"line {line} has {len(record)} cells and the header {columns}",
                    where=f"{path}:{line}",
                    expected=f"{columns} cells",
                    got=",".join(record)[:200],
                    fix="correct the line; quote a cell that holds a comma, a quote or a line break",
                )
    except csv.Error as exc:
        raise SourceUnreadable(
            f"the record after line {line} is not CSV", where=f"{path}:{line}", got=str(exc), fix="close its quotes"
        ) from exc
