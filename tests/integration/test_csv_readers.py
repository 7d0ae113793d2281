"""Compare the reader of CSV files with Python's `csv` and with pandas, on generated files."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from pathlib import Path

import pandas as pd
import polars as pl
import pytest
from tests.integration.csv_files import random_csv

from ml_pipelines.data import csv_structure
from ml_pipelines.data.source_table import SourceTable, open_source
from ml_pipelines.data.type_inference import parse_columns
from ml_pipelines.errors import SourceUnreadable

FILES = 10_000
PARTS = 10

Rows = list[list[str]]


class Expected:
    """A file as Python's `csv` reads it, and whether it is a table that a reader must accept."""

    def __init__(self, data: bytes) -> None:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = "\0"
        is_text = bool(text) and "\0" not in text
        records = list(csv.reader(io.StringIO(text, newline=""))) if is_text else [[]]
        self.names, self.rows = records[0], records[1:]
        self.is_table = is_text and self._has_header() and self._is_rectangular() and _is_closed(text)
        self.is_ambiguous = is_text and _has_ambiguous_quotes(text)

    def _has_header(self) -> bool:
        separators = len(self.names) == 1 and any(mark in self.names[0] for mark in ";\t|")
        return (
            all(name.strip() for name in self.names)
            and max(Counter(self.names).values(), default=2) == 1
            and not separators
        )

    def _is_rectangular(self) -> bool:
        return any(self.rows) and all(len(row) in (0, len(self.names)) for row in self.rows)


def _is_closed(text: str) -> bool:
    last = list(csv.reader(io.StringIO(text.rstrip("\r\n") + "\nend\n", newline="")))[-1]
    return last == ["end"]


def _has_ambiguous_quotes(text: str) -> bool:
    """Return whether a record of several lines is not strict CSV."""
    reader, before = csv.reader(io.StringIO(text, newline="")), 0
    lines = list(io.StringIO(text, newline=""))
    for _ in reader:
        try:
            list(csv.reader(lines[before : reader.line_num], strict=True))
        except csv.Error:
            if reader.line_num - before > 1:
                return True
        before = reader.line_num
    return False


def filled(rows: Rows) -> Rows:
    """Return the rows with a value other than blanks, which pandas leaves out."""
    return [row for row in rows if any(cell.strip() for cell in row)]


def read_all(source: SourceTable) -> Rows:
    frame = source.scan().collect(engine="streaming")
    source.check_rows(len(frame))
    return [["" if cell is None else cell for cell in row] for row in frame.rows()]


def read_by_pandas(data: bytes) -> Rows:
    frame = pd.read_csv(io.BytesIO(data), dtype=str, na_filter=False, index_col=False, encoding="utf-8")
    return frame.to_numpy().tolist()


def opened(path: Path) -> SourceTable | SourceUnreadable:
    try:
        return open_source(str(path), "s3://b/rows.csv", str(path.parent))
    except SourceUnreadable as exc:
        return exc


def check_file(data: bytes, path: Path, *, deep: bool) -> str:
    path.write_bytes(data)
    expected = Expected(data)
    source = opened(path)
    if isinstance(source, SourceUnreadable):
        assert not expected.is_table or expected.is_ambiguous, source
        assert re.match(r"s3://b/rows\.csv(:\d+)?$", source.where), source
        assert source.fix
        return "refused"
    assert expected.is_table
    assert list(source.columns) == expected.names
    assert source.rows == len(expected.rows)
    rows = read_all(source)
    assert [row for row in rows if any(row)] == [row for row in expected.rows if any(row)]
    assert filled(rows) == filled(read_by_pandas(data))
    if deep:
        check_columns(source, rows)
    return "plain" if source.path == str(path) else "rewritten"


def check_columns(source: SourceTable, rows: Rows) -> None:
    """Check that each column and the typed table have the same rows."""
    for position, name in enumerate(source.columns[:5]):
        cells = source.scan().select(pl.nth(position)).collect(engine="streaming").to_series().to_list()
        assert ["" if cell is None else cell for cell in cells] == [row[position] for row in rows], name
    if any(any(row) for row in rows):
        typed = parse_columns(source, source.columns[-1:], {source.columns[-1]: "string"})
        cells = typed.frame.collect(engine="streaming").to_series().to_list()
        assert ["" if cell is None else cell for cell in cells] == [row[-1] for row in rows if any(row)]
        assert (typed.rows, typed.rows + typed.empty) == (len(cells), source.rows)


@pytest.mark.parametrize("part", range(PARTS))
def test_a_csv_file_is_read_as_by_csv_and_pandas_or_refused(
    part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = Counter[str]()
    path = tmp_path / "rows.csv"
    for seed in range(part, FILES, PARTS):
        data = random_csv(seed)
        monkeypatch.setattr(csv_structure, "BLOCK_BYTES", 7 if seed % 3 == 0 and len(data) < 500 else 1 << 22)
        monkeypatch.setenv("POLARS_CSV_CHUNK_SIZE", "16" if seed % 5 == 0 else "65536")
        try:
            outcomes[check_file(data, path, deep=seed % 7 == 0)] += 1
        except Exception as exc:
            exc.add_note(f"file {seed}: {data[:2000]!r}")
            raise
    assert min(outcomes["plain"], outcomes["rewritten"], outcomes["refused"]) > FILES / PARTS / 20, outcomes
