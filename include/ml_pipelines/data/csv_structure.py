"""Check the bytes of a CSV file in one pass, and count its rows.

A file is *plain* if every reader of CSV splits it into the same cells. Each quote opens a cell, closes a cell, or is
one of a doubled pair. Each line ends with a line feed, and each record has as many cells as the header. Only plain
files are given to Polars, because for other files its result changes with the selected columns.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ml_pipelines._utils.progress import progress_logger
from ml_pipelines.errors import SourceUnreadable

__all__ = ["BLOCK_BYTES", "MAX_CELL", "CsvStructure", "scan_csv_bytes"]

BLOCK_BYTES = 1 << 22
"""How many bytes of a file are read at a time."""
MAX_CELL = 1 << 24
"""The most characters of a cell. The fast check counts bytes, so a longer cell is checked again, by characters."""
_MAX_PENDING = 4 * MAX_CELL  # bytes of one record; a file with a longer record is not plain
_LF, _CR, _COMMA, _QUOTE = b'\n\r,"'

_Bytes = NDArray[np.uint8]
_Mask = NDArray[np.bool_]


class CsvStructure(NamedTuple):
    """The structure of a CSV file.

    Attributes:
        lines: number of records, including the header and blank lines. Only valid if the file is plain.
        blank: number of blank lines. Only valid if the file is plain.
        plain: whether every reader of CSV splits the file into the same cells.
    """

    lines: int
    blank: int
    plain: bool


class _Records(NamedTuple):
    """The complete records at the start of a block.

    Attributes:
        lines: number of records, including blank lines.
        blank: number of blank lines.
        columns: number of cells of each record.
        end: position after the last record.
    """

    lines: int
    blank: int
    columns: int
    end: int


def scan_csv_bytes(path: str, location: str) -> CsvStructure:
    """Check that a file is UTF-8 text, and whether it is plain, in constant memory.

    Args:
        path: path of a local file with comma-separated cells. A byte order mark is allowed.
        location: name of the file in error messages.

    Raises:
        SourceUnreadable: the file is empty, is not UTF-8, or contains NUL bytes.
    """
    lines = blank = columns = 0
    plain, pending = True, b""
    if not Path(path).stat().st_size:
        raise SourceUnreadable("the file is empty", where=location, fix="deliver a file with a header and rows")
    for block in _text_blocks(path, location):
        if not plain:
            continue  # of the remaining blocks, only the encoding is checked
        pending += block
        records = _plain_records(pending, columns)
        plain = records is not None and len(pending) - records.end <= _MAX_PENDING
        if records is not None:
            lines, blank, columns = lines + records.lines, blank + records.blank, records.columns
            pending = pending[records.end :]
    if plain and pending:
        last = None if pending.endswith(b"\r") else _plain_records(pending + b"\n", columns)
        if last is None or last.end <= len(pending):
            return CsvStructure(lines, blank, plain=False)
        lines, blank = lines + last.lines, blank + last.blank
    return CsvStructure(lines, blank, plain)


def _plain_records(text: bytes, columns: int) -> _Records | None:
    """Return the complete records at the start of a text, or None if these records are not plain.

    Args:
        text: bytes of the file, beginning with a record.
        columns: number of columns, or 0 if the text begins with the header.
    """
    data = np.frombuffer(text, dtype=np.uint8)
    newline, separator = data == _LF, data == _COMMA
    if b'"' in text:
        outside = (np.cumsum(data == _QUOTE, dtype=np.uint8) & 1) == 0
        newline &= outside
        separator &= outside
        end = len(text) - int(np.argmax(newline[::-1])) if newline.any() else 0
        if not _quotes_are_strict(data[:end]):
            return None
    else:
        outside = None
        end = text.rfind(b"\n") + 1
    data, newline, separator = data[:end], newline[:end], separator[:end]
    if not end:
        return _Records(0, 0, columns, 0)
    if b"\r" in text and not _returns_precede_feeds(data, outside):
        return None
    return _rectangle(data, newline, newline | separator, columns)


def _rectangle(data: _Bytes, newline: _Mask, marks: _Mask, columns: int) -> _Records | None:
    """Return the counts if all records that are not blank have equally many cells, otherwise None."""
    kinds = data[marks]
    columns = columns or int(np.argmax(kinds == _LF)) + 1
    lines = int(np.count_nonzero(kinds == _LF))
    if len(data) > MAX_CELL and np.diff(np.flatnonzero(marks), prepend=-1).max() > MAX_CELL:
        return None
    is_even = len(kinds) == lines * columns and bool((kinds[columns - 1 :: columns] == _LF).all())
    if is_even and columns > 1:
        return _Records(lines, 0, columns, len(data))
    ends = np.flatnonzero(newline)
    lengths = np.diff(ends, prepend=-1) - 1
    blanks = (lengths == 0) | ((lengths == 1) & (data[ends - 1] == _CR))
    widths = np.diff(np.flatnonzero(kinds == _LF), prepend=-1)
    if not ((widths == columns) | blanks).all():
        return None
    return _Records(lines, int(np.count_nonzero(blanks)), columns, len(data))


def _quotes_are_strict(data: _Bytes) -> bool:
    """Return whether each quote opens a cell, closes a cell, or is one of a doubled pair. The text ends with a LF."""
    quotes = np.flatnonzero(data == _QUOTE)
    opening, closing = quotes[0::2], quotes[1::2]
    before = data[opening - 1]  # for a quote at position 0 this is the last line feed
    after = data[np.minimum(closing + 1, len(data) - 1)]
    return bool(np.isin(before, (_COMMA, _LF, _QUOTE)).all() and np.isin(after, (_COMMA, _LF, _CR, _QUOTE)).all())


def _returns_precede_feeds(data: _Bytes, outside: _Mask | None) -> bool:
    """Return whether each carriage return outside quotes is part of a line end. The text ends with a line feed."""
    returns = data == _CR
    if outside is not None:
        returns &= outside[: len(data)]
    return bool((data[np.flatnonzero(returns) + 1] == _LF).all())


def _text_blocks(path: str, location: str) -> Iterator[bytes]:
    """Yield the blocks of a file after a check that they are UTF-8 without NUL. A block may end within a character."""
    decode = codecs.getincrementaldecoder("utf-8")().decode
    offset, in_character = 0, False
    advance = progress_logger("checking the file", "bytes", Path(path).stat().st_size)
    with Path(path).open("rb") as file:
        while True:
            block = file.read(BLOCK_BYTES)
            if b"\0" in block:
                raise _not_text(path, location, offset + block.index(b"\0"), "a NUL byte")
            # An ASCII block needs no decoding, except if the previous block may have ended within a character.
            if in_character or not block.isascii():
                try:
                    decode(block, final=not block)
                except UnicodeDecodeError as exc:
                    # The decoder's input begins with the bytes that the decoder kept from the previous block.
                    at = offset + len(block) - len(exc.object) + exc.start
                    raise _not_text(path, location, at, f"byte 0x{exc.object[exc.start]:02X}") from exc
            if not block:
                return
            yield block if offset else block.removeprefix(codecs.BOM_UTF8)
            in_character = block[-1] >= 0x80
            offset += len(block)
            advance(len(block))


def _not_text(path: str, location: str, offset: int, got: str) -> SourceUnreadable:
    with Path(path).open("rb") as file:
        start = file.read(1024)
        file.seek(0)
        line = 1 + sum(file.read(min(BLOCK_BYTES, offset - at)).count(b"\n") for at in range(0, offset, BLOCK_BYTES))
    encoding = _encoding(start)
    fix = f"save the file as UTF-8, for example with: iconv -f {encoding or 'WINDOWS-1252'} -t UTF-8"
    if encoding is None and got == "a NUL byte":
        fix = r"deliver the file again, or remove the NUL bytes, for example with: tr -d '\000'"
    return SourceUnreadable(
        f"line {line} is not UTF-8 text",
        where=f"{location}:{line}",
        expected="a CSV file in UTF-8",
        got=got,
        fix=fix,
    )


def _encoding(start: bytes) -> str | None:
    """Return the name of a text's Unicode encoding other than UTF-8, or None if no such encoding is recognised."""
    marks = {"UTF-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE), "UTF-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)}
    for name, of_name in marks.items():
        if start.startswith(of_name):
            return name
    halves = {"UTF-16BE": start[0::2], "UTF-16LE": start[1::2]}
    return next((name for name, half in halves.items() if half and half.count(0) > len(half) * 0.9), None)
