from __future__ import annotations

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml_pipelines.data import csv_records, csv_structure
from ml_pipelines.data.source_table import SourceTable, open_source, source_errors
from ml_pipelines.errors import DataError, NoRows, SourceUnreadable


@pytest.fixture
def opened(tmp_path):
    """Opens a CSV file with some bytes."""

    def of(data: bytes) -> SourceTable:
        path = tmp_path / "data.csv"
        path.write_bytes(data)
        return open_source(str(path), "s3://b/data.csv", str(tmp_path))

    return of


# Bytes, a fact of the message, and a word of the fix.
BAD_FILES = {
    "empty": (b"", "the file is empty", "a header and rows"),
    "no header": (b"\na,b\n1,2\n", "the file has no header", "name the columns"),
    "unnamed": (b"a,,c\n1,2,3\n", "column 2 has no name", "name or remove it"),
    "repeated": (b"a,b,a\n1,2,3\n", "several columns are called 'a'", "its own name"),
    "semicolons": (b"a;b\n1;2\n", "the cells are not separated by commas", "with commas"),
    "latin-1": (b"a,b\nx,y\nM\xfcller,2\n", "line 3 is not UTF-8 text", "iconv"),
    "half a character": (b"a,b\n1,2\xc3", "line 2 is not UTF-8 text", "iconv"),
    "UTF-16 and its mark": ("a,b\n1,2\n".encode("utf-16"), "line 1 is not UTF-8 text", "iconv -f UTF-16 -t UTF-8"),
    "UTF-16": ("a,b\n1,2\n".encode("utf-16-le"), "line 1 is not UTF-8 text", "iconv -f UTF-16LE"),
    "UTF-32 and its mark": ("a,b\n1,2\n".encode("utf-32"), "line 1 is not UTF-8 text", "iconv -f UTF-32 -t UTF-8"),
    "NUL": (b"a,b\n1,2\n3,\x00\n", "line 3 is not UTF-8 text", "remove the NUL bytes"),
    "zip": (b"PK\x03\x04" + bytes(40), "a zip archive", "unpack"),
    "gzip": (b"\x1f\x8b\x08" + bytes(40), "compressed by gzip", ".csv.gz"),
    "Parquet": (b"PAR1" + bytes(40), "a Parquet file", ".parquet"),
    "page": (b"\n<!DOCTYPE html><html>", "an HTML page", "check the address"),
    "only a byte order mark": (b"\xef\xbb\xbf", "the file has no header", "name the columns"),
    "long line": (b"a,b\n1,2\n1,2,3\n", "line 3 has 3 cells and the header 2", "quote a cell"),
    "short line": (b"a,b,c\n1,2,3\n\n1,2\n", "line 4 has 2 cells and the header 3", "quote a cell"),
    "long line after a quoted break": (
        b'a,b\n"1\n1",2\n1,2,3\n',
        "line 4 has 3 cells and the header 2",
        "quote a cell",
    ),
    "open quote": (
        b'a,b\n1,2\n"3,4\n5,6\n',
        "the quote at the start of cell 1 of line 3 is not closed",
        "close the quote",
    ),
    "open quote in the last cell": (
        b'a,b\n1,"2\n3,4',
        "the quote at the start of cell 2 of line 2 is",
        "close the quote",
    ),
    "joined records": (
        b'a,b\n1,"27 inch\n2,ok\n3,"27 inch\n',
        "the quote at the start of cell 2 of line 2 is closed within a cell of line 4",
        "double a quote",
    ),
    "lines that add up": (b"a,b\n1,2,3\n4\n", "line 2 has 3 cells and the header 2", "quote a cell"),
    "blank header": (b'"",""\n1,2\n', "the file has no header", "name the columns"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_open_source_reports_the_line_and_the_fix_of_a_bad_file(opened, case):
    data, fact, fix = BAD_FILES[case]
    with pytest.raises(SourceUnreadable) as caught:
        opened(data)
    assert fact in caught.value.what
    assert fix in caught.value.fix
    assert caught.value.where.startswith("s3://b/data.csv")


@pytest.mark.parametrize("data", [b"a,b\n", b"a,b", b"a,b\n\n\n", b'"a",b\r\n'])
def test_open_source_refuses_a_file_without_rows(opened, data):
    with pytest.raises(NoRows):
        opened(data)


# Bytes, the rows without blank lines, and whether the file is plain.
GOOD_FILES = {
    "no last line end": (b"a,b\n1,2\n3,4", [("1", "2"), ("3", "4")], True),
    "quotes": (b'a,b\n"1,1","2""2"\n"3\n3",4\n\n\n', [("1,1", '2"2'), ("3\n3", "4")], True),
    "other letters": ("ä,b\nö,ü".encode(), [("ö", "ü")], True),
    "one column": (b"a\n1\n\n2\n", [("1",), ("2",)], True),
    "Windows": (b"\xef\xbb\xbfy,x\r\n1,a\r\n\r\n2,b\r\n", [("1", "a"), ("2", "b")], True),
    "quoted header": (b'id,"a ""b"" c","d\ne"\n1,2,3\n', [("1", "2", "3")], True),
    "empty cells": (b'a,b\n1,\n"",2\n', [("1", None), (None, "2")], True),
    "a stray quote": (b'a,b\n5" pipe,2\n3,27"\n', [('5" pipe', "2"), ("3", '27"')], False),
    "text after a quoted cell": (b'a,b\n"5"x,2\n', [("5x", "2")], False),
    "carriage returns": (b"a,b\r1,2\r\r3,4\r", [("1", "2"), ("3", "4")], False),
    "one carriage return": (b"a,b\n1,2\r3,4\n", [("1", "2"), ("3", "4")], False),
    "a last carriage return": (b"a,b\n1,2\r", [("1", "2")], False),
}


@pytest.mark.parametrize("block", [1 << 22, 5])
@pytest.mark.parametrize("case", GOOD_FILES)
def test_open_source_reads_all_rows(opened, case, block, monkeypatch):
    monkeypatch.setattr(csv_structure, "BLOCK_BYTES", block)
    data, rows, is_plain = GOOD_FILES[case]
    source = opened(data)
    frame = source.scan().collect()
    source.check_rows(len(frame))
    assert [row for row in frame.rows() if any(row)] == rows
    assert source.path.endswith("data.csv") == is_plain


def test_open_source_unescapes_the_names_of_a_header(opened):
    names = ("id", 'a "b" c', "d\ne", "^i.*$", "*")
    source = opened(b'id,"a ""b"" c","d\ne",^i.*$,*\n1,2,3,4,5\n')
    assert (source.columns, tuple(source.scan().collect_schema())) == (names, names)


def test_polars_reads_the_same_rows_whatever_columns_it_reads(opened):
    lines = [
        f"{number},{number % 7},{'27' + chr(34) if number in (200, 700) else 'ok'} screen\n" for number in range(1000)
    ]
    source = opened(("id,x,comment\n" + "".join(lines)).encode())
    assert source.rows == 1000
    for columns in (["id"], ["x", "id"], ["comment"], ["id", "x", "comment"]):
        frame = source.scan().select(columns).collect(engine="streaming")
        assert len(frame) == 1000
        assert "id" not in columns or frame["id"].to_list() == [str(number) for number in range(1000)]


def test_open_source_decodes_a_character_across_two_blocks(opened, monkeypatch):
    monkeypatch.setattr(csv_structure, "BLOCK_BYTES", 7)
    opened('a,b\n"é,é",öö\nüüü,"é\né"\n'.encode())
    with pytest.raises(SourceUnreadable, match="line 4"):
        opened("a,b\né,ö\nüüü,é\n".encode() + b"x,\xff\n")


def test_open_source_limits_the_size_of_a_cell(opened, monkeypatch):
    monkeypatch.setattr(csv_structure, "BLOCK_BYTES", 1 << 20)
    cell = b"x" * (csv_structure.MAX_CELL + 1)
    for data in (b"a,b\n1,2\n3," + cell + b"\n4,5\n", b'a,b\n1,2\n3,"' + cell + b'"\n', b"a,b\n1,2\n" + cell):
        with pytest.raises(SourceUnreadable, match="line 3 has a cell of more than 16,777,216 characters"):
            opened(data)


def test_open_source_limits_the_length_of_a_line(opened, monkeypatch):
    monkeypatch.setattr(csv_records, "_MAX_LINE", 20)
    with pytest.raises(SourceUnreadable, match="line 2 has more than 20 characters"):
        opened(b"a,b\r" + b"1," * 30 + b"\r")


def test_open_source_counts_the_rows_of_a_parquet_file(tmp_path):
    path = tmp_path / "data.parquet"
    pl.DataFrame({"a": [1, 2, 3]}).write_parquet(path)
    source = open_source(str(path), "data", str(tmp_path))
    assert (source.columns, source.rows) == (("a",), 3)
    with pytest.raises(DataError):
        source.check_rows(2)


def test_open_source_refuses_two_parquet_columns_of_one_name(tmp_path):
    path = str(tmp_path / "data.parquet")
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), path)
    with pytest.raises(SourceUnreadable, match="several columns are called 'a'"):
        open_source(path, "data", str(tmp_path))


@pytest.mark.parametrize("data", [b"a,b\n1,2\n", b"PAR1" + bytes(40) + b"PAR1", b""])
def test_open_source_refuses_a_file_that_is_not_parquet(tmp_path, data):
    (tmp_path / "data.parquet").write_bytes(data)
    with pytest.raises(SourceUnreadable, match="Parquet"):
        open_source(str(tmp_path / "data.parquet"), "data", str(tmp_path))


def test_source_errors_have_the_location_and_the_first_line_of_the_error(tmp_path):
    source = SourceTable("/x/data.csv", "s3://b/data.csv", ("a",), 1)
    with pytest.raises(SourceUnreadable) as caught, source_errors(source):
        raise pl.exceptions.ComputeError("malformed: /x/data.csv\nlong story")
    assert (caught.value.where, caught.value.got) == ("s3://b/data.csv", "malformed: s3://b/data.csv")
