from __future__ import annotations

import datetime as dt
import math
from importlib.resources import files
from types import SimpleNamespace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_pipelines.contracts import DataPin, Identity
from ml_pipelines.data import type_inference as cells_module
from ml_pipelines.data.csv_checks import check_csv, source_error
from ml_pipelines.errors import DataError, SourceUnreadable
from ml_pipelines.pipeline.parameters import IngestParameters
from ml_pipelines.spec.training import FileSource
from ml_pipelines.steps.training.ingest import ingest
from ml_pipelines.steps.training.ingest_io import resolve

SAMPLES = files("ml_pipelines") / "sample_data"
NOON = dt.datetime(2026, 10, 31, 12, tzinfo=dt.UTC)

SOMEBODY = Identity(pipeline="p", run_id="r", task_id="t")


def parameters(types=None, *, target="y", key=None, ignore=()):
    return IngestParameters(source=FileSource(path="x"), types=types or {}, key=key, target=target, ignore=ignore)


def read(path, types=None, **kwargs):
    return ingest(raw_path=str(path), parameters=parameters(types, **kwargs), seed=0)


@pytest.fixture
def csv(tmp_path):
    def write(text):
        path = tmp_path / "data.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


@pytest.fixture
def column(csv):
    def of(*cells, kind=None):
        lines = "".join(f"{number},{cell}\n" for number, cell in enumerate(cells))
        output = read(csv("y,x\n" + lines), {"x": kind} if kind else {})
        return output.outputs["table"].collect()

    return of


class Source:
    def __init__(self, digest):
        self.digest = digest

    def pin(self):
        return DataPin(source="file", location="rows.csv", digest=self.digest)

    def fetch(self, pin, directory):
        assert pin == self.pin()
        return f"{directory}/rows.csv"


def test_resolve_pins_the_data_and_fetches_it_only_when_asked():
    services = SimpleNamespace(source=lambda declared: Source("md5:1"))
    resolution = resolve(parameters(), {}, services, SOMEBODY)
    pin = DataPin(source="file", location="rows.csv", digest="md5:1").model_dump(mode="json")
    assert (resolution.key_facts, resolution.values, resolution.cacheable) == ({"data": "md5:1"}, {"pin": pin}, True)
    assert resolution.prepare("here") == {"raw_path": "here/rows.csv"}


def test_a_source_whose_version_only_reading_tells_is_not_cacheable():
    assert not resolve(parameters(), {}, SimpleNamespace(source=lambda declared: Source(None)), SOMEBODY).cacheable


@pytest.mark.parametrize(
    ("cells", "dtype", "values"),
    [
        (["1", " 2 ", ""], pl.Int64, [1, 2, None]),
        (["1", "2.5", "inf", "nan", "1e3"], pl.Float64, [1.0, 2.5, math.inf, math.nan, 1000.0]),
        (["true", "FALSE", ""], pl.Boolean, [True, False, None]),
        (["2026-10-31", ""], pl.Date, [dt.date(2026, 10, 31), None]),
        (["2026-10-31T12:00:00", "2026-10-31 12:00"], pl.Datetime("us", "UTC"), [NOON, NOON]),
        (["2026-10-31T14:00:00+02:00", "2026-10-31T12:00:00Z"], pl.Datetime("us", "UTC"), [NOON, NOON]),
        (["2026-10-31T12:00:00.000", "2026-10-31T12:00:00.000Z"], pl.Datetime("us", "UTC"), [NOON, NOON]),
        (["1", "x"], pl.String, ["1", "x"]),
        (["007", "12"], pl.String, ["007", "12"]),
        (["12345678901234567890", "1"], pl.String, ["12345678901234567890", "1"]),
        (["yes", "no"], pl.String, ["yes", "no"]),
        (["", '""'], pl.String, [None, None]),
        (["größe", "日本", '"a,""b\nc"'], pl.String, ["größe", "日本", 'a,"b\nc']),
    ],
)
def test_an_undeclared_column_gets_the_narrowest_type_that_fits_all_cells(column, cells, dtype, values):
    table = column(*cells)
    assert table.schema["x"] == dtype
    assert table["x"].equals(pl.Series("x", values, dtype=dtype), null_equal=True)
    assert "_bad_cells" not in table.columns


def test_a_cell_far_below_the_first_rows_still_widens_the_type(column):
    assert column(*["1"] * 10_001, "2.5").schema["x"] == pl.Float64


@pytest.mark.parametrize(
    ("kind", "cells", "values", "complaint"),
    [
        ("float", [" 1.5", "abc", ""], [1.5, None, None], "x: 'abc' is not a float"),
        ("integer", ["5.0", "5.5", "7"], [5, None, 7], "x: '5.5' is not an integer"),
        ("boolean", ["1", "yes", "False"], [True, None, False], "x: 'yes' is not a boolean"),
        (
            "date",
            ["2026-10-31 00:00:00", "2026-10-31 12:00:00", "2026-02-28"],
            [dt.date(2026, 10, 31), None, dt.date(2026, 2, 28)],
            "x: '2026-10-31 12:00:00' is not a date",
        ),
        ("datetime", ["2026-10-31T12:00", "31.10.2026", ""], [NOON, None, None], "x: '31.10.2026' is not a datetime"),
        ("date", ["2026-02-30", "2026-02-30", ""], [None] * 3, "x: '2026-02-30' is not a date"),
    ],
)
def test_a_cell_that_is_not_what_is_declared_is_null_and_told(column, kind, cells, values, complaint):
    table = column(*cells, kind=kind)
    assert table["x"].to_list() == values
    assert table["_bad_cells"][1] == complaint
    assert table["_bad_cells"][2] is None


def test_several_unreadable_cells_of_a_row_are_all_told(csv):
    table = read(csv("y,a,b\n1,u,v\n"), {"a": "float", "b": "integer"}).outputs["table"].collect()
    assert table["_bad_cells"].to_list() == ["a: 'u' is not a float; b: 'v' is not an integer"]


def test_a_declared_string_stays_as_it_is(column):
    assert column("007", " 1 ", kind="string")["x"].to_list() == ["007", " 1 "]


def test_ignored_columns_are_dropped_and_empty_records_are_no_rows(csv):
    output = read(csv("y,a,b\n1,2,3\n\n4,5,6\n,,\n"), ignore=("b", "not there"))
    assert output.outputs["table"].collect().rows() == [(1, 2), (4, 5)]
    assert output.values == {"columns": 2, "empty_rows": 2}


def test_crlf_and_a_byte_order_mark_are_tolerated(csv):
    path = csv(b"\xef\xbb\xbfy,x\r\n1,a\r\n2,b\r\n")
    check_csv(path)
    assert read(path).outputs["table"].collect().rows() == [(1, "a"), (2, "b")]


def test_parquet_keeps_its_types_and_is_cast_to_the_declared_ones(tmp_path):
    frame = pl.DataFrame(
        {
            "y": pl.Series([1, 0], dtype=pl.Int8),
            "text": ["007", "x"],
            "level": pl.Series(["a", "b"], dtype=pl.Categorical),
            "count": [5.0, math.nan],
            "half": [1.5, 2.0],
            "day": pl.Series([dt.datetime(2026, 10, 31), None], dtype=pl.Datetime("ns")),
            "moment": pl.Series([NOON, None]).dt.convert_time_zone("Europe/Berlin"),
        }
    )
    frame.write_parquet(tmp_path / "data.parquet")
    output = read(tmp_path / "data.parquet", {"count": "integer", "half": "integer", "day": "date", "text": "string"})
    table = output.outputs["table"].collect()
    assert table.schema["y"] == pl.Int64
    assert table.schema["moment"] == pl.Datetime("us", "UTC")
    assert table.schema["level"] == pl.String
    assert table["count"].to_list() == [5, None]
    assert table["day"].to_list() == [dt.date(2026, 10, 31), None]
    assert table["_bad_cells"].to_list() == ["half: '1.5' is not an integer", None]


def test_a_parquet_column_of_lists_is_refused(tmp_path):
    pl.DataFrame({"y": [1], "tags": [["a"]]}).write_parquet(tmp_path / "data.parquet")
    with pytest.raises(SourceUnreadable, match="the column 'tags' holds no plain values") as caught:
        read(tmp_path / "data.parquet")
    assert caught.value.fix == "add it to data.ignore, or turn it into plain columns"


@pytest.mark.parametrize(
    ("kwargs", "what", "fix"),
    [
        ({"target": "why"}, "the target 'why' is not in the data", "correct the name in the declaration"),
        ({"key": "customer"}, "the key 'customer' is not in the data", "did you mean 'customer_id'?"),
        ({"types": {"amout": "float"}}, "the declared column 'amout' is not in the data", "did you mean 'amount'?"),
        ({"ignore": ("y",)}, "the target 'y' is not in the data", "correct the name in the declaration"),
    ],
)
def test_a_column_that_is_not_there_is_told_with_those_that_are(csv, kwargs, what, fix):
    with pytest.raises(DataError) as caught:
        read(csv("y,customer_id,amount\n1,2,3\n"), **kwargs)
    assert caught.value.what == what
    assert fix in caught.value.fix
    assert "customer_id, amount" in caught.value.got


@pytest.mark.parametrize("name", ["_bad_cells", "_row", "_reason"])
def test_reserved_names_are_refused(csv, name):
    with pytest.raises(DataError, match=f"a column is called '{name}'") as caught:
        read(csv(f"y,{name}\n1,2\n"))
    assert caught.value.fix == "rename the column in the data"


@pytest.mark.parametrize("text", ["y,x\n", "y,x\n,\n\n"])
def test_a_table_without_rows_is_refused(csv, text):
    with pytest.raises(DataError, match="there are no rows"):
        read(csv(text))


BAD_FILES = {
    "empty": (b"", "the file is empty", "a header and rows"),
    "header only": (b"a,b\n", "the file has a header and no rows", "deliver the rows"),
    "no header": (b"\na,b\n1,2\n", "the file has no header", "name the columns"),
    "unnamed": (b"a,,c\n1,2,3\n", "column 2 has no name", "name or remove it"),
    "repeated": (b"a,b,a\n1,2,3\n", "several columns are called 'a'", "a name of its own"),
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
def test_a_file_that_is_no_table_is_told_with_its_line(csv, case):
    data, what, fix = BAD_FILES[case]
    with pytest.raises(SourceUnreadable) as caught:
        check_csv(csv(data))
    assert caught.value.what == what
    assert fix in caught.value.fix


@pytest.mark.parametrize(
    "data",
    [
        b"a,b\n1,2\n3,4",
        b'a,b\n"1,1","2""2"\n"3\n3",4\n\n\n',
        "ä,b\nö,ü".encode(),
        b"a\n1\n",
        b'a,b\n5" pipe,2\n',
    ],
)
def test_good_files_pass(csv, data):
    check_csv(csv(data))


def test_a_character_across_two_blocks_is_one_character(csv, monkeypatch):
    monkeypatch.setattr("ml_pipelines.data.csv_checks._BLOCK_BYTES", 7)
    check_csv(csv('a,b\n"é,é",öö\nüüü,"é\né"\n'))
    with pytest.raises(SourceUnreadable, match="line 4 is not UTF-8 text"):
        check_csv(csv("a,b\né,ö\nüüü,é\n".encode() + b"x,\xff\n"))


def test_a_ragged_line_that_polars_meets_is_told_in_our_words(csv):
    with pytest.raises(SourceUnreadable, match="line 3 has 3 cells and the header 2") as caught:
        read(csv("y,x\n1,2\n1,2,3\n"))
    assert isinstance(caught.value.__cause__, pl.exceptions.PolarsError)


def test_what_only_polars_minds_is_told_with_its_words(csv, tmp_path):
    error = source_error(pl.exceptions.ComputeError("CSV malformed\nlong story"), csv(b'a,b\n5" pipe,2\n'))
    assert (error.what, error.got) == ("the file can't be read as CSV", "CSV malformed")
    assert "double the quotes" in error.fix
    (tmp_path / "data.parquet").write_bytes(b"no parquet")
    with pytest.raises(SourceUnreadable, match="the file can't be read as Parquet") as caught:
        read(tmp_path / "data.parquet")
    assert caught.value.fix == "write the file again"


def test_the_sample_files_are_read(tmp_path):
    for name, rows, key, target in (
        ("customers-2026-10.csv", 3333, "customer_id", "label"),
        ("customers-2026-11.csv", 5000, "customer_id", "label"),
        ("credit.csv", 4454, None, "Status"),
    ):
        check_csv(str(SAMPLES / name))
        output = read(SAMPLES / name, key=key, target=target)
        expected = pl.read_csv(SAMPLES / name, infer_schema_length=None)
        assert output.outputs["table"].collect().equals(expected)
        assert (expected.height, output.values) == (rows, {"columns": expected.width, "empty_rows": 0})


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)
TABLES = st.lists(
    st.fixed_dictionaries(
        {
            "text": st.none() | TEXT,
            "integer": st.none() | st.integers(-(2**63), 2**63 - 1),
            "float": st.none() | st.floats(allow_nan=False),
            "boolean": st.none() | st.booleans(),
            "date": st.none() | st.dates(dt.date(1, 1, 1)),
            "datetime": st.none() | st.datetimes(dt.datetime(1, 1, 1), timezones=st.just(dt.UTC)),
            "y": st.integers(0, 1),
        }
    ),
    min_size=1,
    max_size=8,
)
DECLARED = {"text": "string", **{name: name for name in ("integer", "float", "boolean", "date", "datetime")}}
SCHEMA = {
    "text": pl.String,
    "integer": pl.Int64,
    "float": pl.Float64,
    "boolean": pl.Boolean,
    "date": pl.Date,
    "datetime": pl.Datetime("us", "UTC"),
    "y": pl.Int64,
}


@settings(max_examples=25, deadline=None)
@given(rows=TABLES)
def test_a_well_typed_table_comes_back_value_for_value(tmp_path_factory, rows):
    frame = pl.DataFrame(rows, schema=SCHEMA)
    path = tmp_path_factory.mktemp("ingest") / "data.csv"
    frame.write_csv(path, datetime_format="%Y-%m-%dT%H:%M:%S%.6f%:z", quote_style="non_numeric")
    check_csv(str(path))
    assert read(path, DECLARED).outputs["table"].collect().equals(frame)
    frame.write_parquet(path.with_suffix(".parquet"))
    assert read(path.with_suffix(".parquet"), DECLARED).outputs["table"].collect().equals(frame)


CELLS = ["1", "-20", "2.5", "1e3", "007", "true", "False", "2026-10-31", "2026-10-31 12:00", "", " 3 ", "word"]


@settings(max_examples=80, deadline=None)
@given(
    cells=st.lists(st.sampled_from(CELLS), min_size=1, max_size=12),
    first=st.lists(st.integers(1, 12), max_size=3).map(sorted),
)
def test_the_types_do_not_depend_on_how_many_rows_are_looked_at_first(tmp_path_factory, cells, first):
    path = tmp_path_factory.mktemp("cells") / "data.csv"
    path.write_text("y,x\n" + "".join(f"{number},{cell}\n" for number, cell in enumerate(cells)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ml_pipelines.data.type_inference._FIRST_ROWS", first)
        some = read(path).outputs["table"].collect()
        patch.setattr("ml_pipelines.data.type_inference._FIRST_ROWS", (len(cells),))
        every = read(path).outputs["table"].collect()
    assert some.schema == every.schema
    assert some.equals(every)


# What may be meant as a number, a boolean or a time, written well and badly.
ODD = r"""0|-0|+0|7|+5|-20|007|-007|0.5|.5|5.|5.0|-1.50|1e3|1E3|1e400|1e-400|1_000|1,5|0x1|1f|+|-|.|e5|inf|-inf|Inf
INFINITY|nan|NaN|NAN|9223372036854775807|9223372036854775808|-9223372036854775808|12345678901234567890|0.1234567890123456789
1234567890123456|true|TRUE|True|tRuE|false|False|t|yes|1|0|null|NULL|None|NA|word|a b|2026-10-31|2026-1-1|+026-01-01
02026-01-01|2026-02-30|0001-01-01|9999-12-31|31.10.2026|20261031|2026-10-31T12:00:00|2026-10-31T24:00:00|2026-10-31T12:00
2026-10-31T23:59:60|2026-10-31T12:00:00Z|2026-10-31T12:00:00.5|2026-10-31T12:00:00+02:00|2026-10-31T00:00:00
+026-10-31T12:00:00|2026-10-31T1:00:00Z|2026-10-31 12:00:00|2026-10-31  2:00:00|2026-10-31 00:00:00|2026-10-31 12:00"""
BLANKS = st.sampled_from(["", "", "", " ", "\t", "  "])
WRITTEN = st.one_of(
    st.sampled_from(ODD.replace("\n", "|").split("|")),
    st.integers().map(str),
    st.floats().map(str),
    st.floats().map("{:.3g}".format),
    st.datetimes().map(str),
    st.datetimes().map(dt.datetime.isoformat),
    st.dates().map(str),
    st.text("0123456789+-.eE_:TZ ", max_size=20),
)
CELL = st.builds("{}{}{}".format, BLANKS, WRITTEN, BLANKS) | st.just("")


@settings(max_examples=150, deadline=None)
@given(
    cells=st.lists(CELL, min_size=1, max_size=6) | CELL.map(lambda cell: [cell] * 3),
    kind=st.none() | st.sampled_from(list(SCHEMA)[:-1]).map(lambda name: DECLARED[name]),
    first=st.lists(st.integers(1, 6), max_size=2).map(sorted),
)
def test_the_usual_way_to_read_a_column_reads_what_the_thorough_one_does(tmp_path_factory, cells, kind, first):
    path = tmp_path_factory.mktemp("ways") / "data.csv"
    pl.DataFrame({"y": range(len(cells)), "x": cells}).write_csv(path, quote_style="necessary")
    declared = {"x": kind} if kind else {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ml_pipelines.data.type_inference._FIRST_ROWS", first)
        usual = read(path, declared).outputs["table"].collect()
        thorough = {each: ways[-1:] for each, ways in cells_module._WAYS_OF.items()}
        patch.setattr("ml_pipelines.data.type_inference._WAYS_OF", thorough)
        patch.setattr(
            "ml_pipelines.data.type_inference._WAYS_OF_OPEN",
            tuple(way for way in cells_module._WAYS_OF_OPEN if way.stripped),
        )
        slow = read(path, declared).outputs["table"].collect()
    assert usual.schema == slow.schema
    assert usual.equals(slow)
    # Also the sign of a zero.
    assert str(usual["x"].to_list()) == str(slow["x"].to_list())
