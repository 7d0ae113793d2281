from __future__ import annotations

import polars as pl
import pytest

from ml_pipelines.data.csv_checks import check_csv, source_error
from ml_pipelines.errors import NoRows, SourceUnreadable


@pytest.fixture
def csv(tmp_path):
    def write(data: bytes) -> str:
        path = tmp_path / "data.csv"
        path.write_bytes(data)
        return str(path)

    return write


# Bytes, a fact of the message, and a word of the fix.
BAD_FILES = {
    "empty": (b"", "the file is empty", "a header and rows"),
    "no header": (b"\na,b\n1,2\n", "the file has no header", "name the columns"),
    "unnamed": (b"a,,c\n1,2,3\n", "column 2 has no name", "name or remove it"),
    "repeated": (b"a,b,a\n1,2,3\n", "several columns are called 'a'", "its own name"),
    "semicolons": (b"a;b\n1;2\n", "the cells are not separated by commas", "with commas"),
    "latin-1": (b"a,b\nx,y\nM\xfcller,2\n", "line 3 is not UTF-8 text", "iconv"),
    "half a character": (b"a,b\n1,2\xc3", "line 2 is not UTF-8 text", "iconv"),
    "carriage returns": (b"a,b\r1,2\r3,4\r", "the lines end with a carriage return alone", "tr "),
    "UTF-16 and its mark": ("a,b\n1,2\n".encode("utf-16"), "line 1 is not UTF-8 text", "iconv -f UTF-16 -t UTF-8"),
    "UTF-16": ("a,b\n1,2\n".encode("utf-16-le"), "line 1 is not UTF-8 text", "iconv"),
    "long line": (b"a,b\n1,2\n1,2,3\n", "line 3 has 3 cells and the header 2", "quote a cell"),
    "short line": (b"a,b,c\n1,2,3\n\n1,2\n", "line 4 has 2 cells and the header 3", "quote a cell"),
    "long line after a quoted break": (
        b'a,b\n"1\n1",2\n1,2,3\n',
        "line 4 has 3 cells and the header 2",
        "quote a cell",
    ),
    "open quote": (b'a,b\n1,2\n"3,4\n5,6\n', "line 3 has 1 cells and the header 2", "correct the line"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_check_csv_reports_the_line_and_the_fix_of_a_bad_file(csv, case):
    data, fact, fix = BAD_FILES[case]
    with pytest.raises(SourceUnreadable) as caught:
        check_csv(csv(data))
    assert fact in caught.value.what
    assert fix in caught.value.fix


def test_check_csv_refuses_a_file_without_rows(csv):
    with pytest.raises(NoRows):
        check_csv(csv(b"a,b\n"))


@pytest.mark.parametrize(
    "data",
    [
        b"a,b\n1,2\n3,4",
        b'a,b\n"1,1","2""2"\n"3\n3",4\n\n\n',
        "ä,b\nö,ü".encode(),
        b"a\n1\n",
        b'a,b\n5" pipe,2\n',
        b"\xef\xbb\xbfy,x\r\n1,a\r\n2,b\r\n",
        b'id,"a ""b"" c",label\n1,2,3\n',
    ],
)
def test_check_csv_accepts_a_good_file(csv, data):
    check_csv(csv(data))


def test_check_csv_decodes_a_character_across_two_blocks(csv, monkeypatch):
    monkeypatch.setattr("ml_pipelines.data.csv_checks.BLOCK_BYTES", 7)
    check_csv(csv('a,b\n"é,é",öö\nüüü,"é\né"\n'.encode()))
    with pytest.raises(SourceUnreadable, match="line 4"):
        check_csv(csv("a,b\né,ö\nüüü,é\n".encode() + b"x,\xff\n"))


def test_source_error_is_that_of_check_csv_where_it_finds_one(csv):
    error = source_error(pl.exceptions.ComputeError("CSV malformed"), csv(b"y,x\n1,2\n1,2,3\n"))
    assert "line 3" in error.what


def test_source_error_has_the_first_line_of_the_error_of_polars(csv):
    error = source_error(pl.exceptions.ComputeError("CSV malformed\nlong story"), csv(b'a,b\n5" pipe,2\n'))
    assert ("CSV" in error.what, error.got) == (True, "CSV malformed")
    error = source_error(pl.exceptions.ComputeError("no footer"), "data.parquet")
    assert ("Parquet" in error.what, error.got, error.where) == (True, "no footer", "data.parquet")
