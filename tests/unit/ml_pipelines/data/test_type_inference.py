from __future__ import annotations

import datetime as dt
import math

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_pipelines.data import type_inference
from ml_pipelines.data.column_expressions import BAD_CELLS
from ml_pipelines.data.column_types import DTYPES
from ml_pipelines.data.source_table import open_source
from ml_pipelines.data.type_inference import parse_columns
from ml_pipelines.errors import NoRows, SourceUnreadable

NOON = dt.datetime(2026, 10, 31, 12, tzinfo=dt.UTC)


def parsed(path, declared=None, names=None):
    source = open_source(str(path), "data", str(path.parent))
    return parse_columns(source, names or source.columns, declared or {})


def read(path, declared=None):
    return parsed(path, declared).frame.collect()


@pytest.fixture
def csv(tmp_path):
    def write(text):
        path = tmp_path / "data.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.fixture
def column(csv):
    """Reads the cells of a CSV column `x`, beside a column of numbers."""

    def of(*cells, kind=None):
        lines = "".join(f"{number},{cell}\n" for number, cell in enumerate(cells))
        return read(csv("y,x\n" + lines), {"x": kind} if kind else {})

    return of


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
def test_parse_columns_infers_the_narrowest_type_that_fits_all_cells(column, cells, dtype, values):
    table = column(*cells)
    assert table.schema["x"] == dtype
    assert table["x"].equals(pl.Series("x", values, dtype=dtype), null_equal=True)
    assert BAD_CELLS not in table.columns


def test_parse_columns_widens_the_type_for_a_cell_far_below_the_first_rows(column):
    assert column(*["1"] * 10_001, "2.5").schema["x"] == pl.Float64


@pytest.mark.parametrize(
    ("kind", "cells", "values", "bad"),
    [
        ("float", [" 1.5", "abc", ""], [1.5, None, None], "abc"),
        ("integer", ["5.0", "5.5", "7"], [5, None, 7], "5.5"),
        ("boolean", ["1", "yes", "False"], [True, None, False], "yes"),
        (
            "date",
            ["2026-10-31 00:00:00", "2026-10-31 12:00:00", "2026-02-28"],
            [dt.date(2026, 10, 31), None, dt.date(2026, 2, 28)],
            "2026-10-31 12:00:00",
        ),
        ("datetime", ["2026-10-31T12:00", "31.10.2026", ""], [NOON, None, None], "31.10.2026"),
        ("date", ["2026-02-30", "2026-02-30", ""], [None] * 3, "2026-02-30"),
    ],
)
def test_parse_columns_marks_a_cell_that_is_not_of_the_declared_type(column, kind, cells, values, bad):
    table = column(*cells, kind=kind)
    assert table["x"].to_list() == values
    assert table[BAD_CELLS][1].to_list() == [{"column": "x", "type": kind, "cell": bad}]
    assert table[BAD_CELLS][2] is None


def test_parse_columns_marks_all_bad_cells_of_a_row(csv):
    table = read(csv("y,a,b\n1,u,v\n"), {"a": "float", "b": "integer"})
    assert table[BAD_CELLS].to_list() == [
        [{"column": "a", "type": "float", "cell": "u"}, {"column": "b", "type": "integer", "cell": "v"}]
    ]


# Cells that are not a number, with everything that a sentence about cells could contain.
PROSE = st.sampled_from(
    ["x; b: 'y", "a: 'x' is not a float", "; ", "'", '"', "b: '", "a,b", "zeile\nzwei", "größe 日本", "[]{}"]
)
TEXT_WITHOUT_NUMBERS = st.text(st.characters(categories=["L", "P"], exclude_characters="infatyINFATY"), min_size=1)
NO_NUMBER = PROSE | TEXT_WITHOUT_NUMBERS
ODD_NAMES = ["a", "b", "^a$", "*", "x; y"]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.fixed_dictionaries(dict.fromkeys(ODD_NAMES, st.sampled_from(["1", "2.0"]) | NO_NUMBER)),
        min_size=1,
        max_size=6,
    )
)
def test_parse_columns_marks_exactly_the_bad_cells_of_each_column(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("prose") / "data.csv"
    pl.DataFrame(rows, schema=dict.fromkeys(ODD_NAMES, pl.String)).write_csv(path)
    table = read(path, dict.fromkeys(ODD_NAMES, "float"))
    expected = [
        [{"column": name, "type": "float", "cell": row[name]} for name in ODD_NAMES if row[name] not in ("1", "2.0")]
        for row in rows
    ]
    marked = table[BAD_CELLS].to_list() if BAD_CELLS in table.columns else [None] * len(rows)
    assert [entries or [] for entries in marked] == expected


def test_parse_columns_keeps_a_declared_string_as_it_is(column):
    assert column("007", " 1 ", kind="string")["x"].to_list() == ["007", " 1 "]


def test_parse_columns_drops_and_counts_empty_records(csv):
    table = parsed(csv("a,b\n1,2\n\n3,4\n,\n"))
    assert (table.frame.collect().rows(), table.rows, table.empty) == ([(1, 2), (3, 4)], 2, 2)


def test_parse_columns_keeps_a_row_whose_values_are_in_other_columns(csv):
    table = parsed(csv("a,b,c\n1,2,3\n,,4\n,,\n"), names=["a", "b"])
    assert (table.frame.collect().rows(), table.rows, table.empty) == ([(1, 2), (None, None)], 2, 1)


@pytest.mark.parametrize("text", ["y,x\n", "y,x\n,\n\n"])
def test_parse_columns_refuses_a_table_without_rows(csv, text):
    with pytest.raises(NoRows):
        read(csv(text))


def test_parse_columns_reads_line_ends_of_windows_and_a_byte_order_mark(csv):
    assert read(csv(b"\xef\xbb\xbfy,x\r\n1,a\r\n2,b\r\n")).rows() == [(1, "a"), (2, "b")]


def test_parse_columns_takes_column_names_as_they_are(csv):
    table = read(csv('^income$,income,*,"a ""b"" c"\n1,2.5,x,\n'), {"^income$": "integer", 'a "b" c': "string"})
    assert table.rows(named=True) == [{"^income$": 1, "income": 2.5, "*": "x", 'a "b" c': None}]


def test_parse_columns_casts_parquet_columns_to_the_declared_types(tmp_path):
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
    path = tmp_path / "data.parquet"
    frame.write_parquet(path)
    table = read(path, {"count": "integer", "half": "integer", "day": "date", "text": "string"})
    assert table.schema["y"] == pl.Int64
    assert table.schema["moment"] == pl.Datetime("us", "UTC")
    assert table.schema["level"] == pl.String
    assert table["count"].to_list() == [5, None]
    assert table["day"].to_list() == [dt.date(2026, 10, 31), None]
    assert table[BAD_CELLS].to_list() == [[{"column": "half", "type": "integer", "cell": "1.5"}], None]


def test_parse_columns_refuses_a_parquet_column_of_lists(tmp_path):
    pl.DataFrame({"y": [1], "tags": [["a"]]}).write_parquet(tmp_path / "data.parquet")
    with pytest.raises(SourceUnreadable, match="tags") as caught:
        read(tmp_path / "data.parquet")
    assert "data.ignore" in caught.value.fix


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
def test_parse_columns_returns_a_well_typed_table_unchanged(tmp_path_factory, rows):
    frame = pl.DataFrame(rows, schema=SCHEMA)
    path = tmp_path_factory.mktemp("typed") / "data.csv"
    frame.write_csv(path, datetime_format="%Y-%m-%dT%H:%M:%S%.6f%:z", quote_style="non_numeric")
    assert read(path, DECLARED).equals(frame)
    frame.write_parquet(path.with_suffix(".parquet"))
    assert read(path.with_suffix(".parquet"), DECLARED).equals(frame)


CELLS = ["1", "-20", "2.5", "1e3", "007", "true", "False", "2026-10-31", "2026-10-31 12:00", "", " 3 ", "word"]


@settings(max_examples=80, deadline=None)
@given(
    cells=st.lists(st.sampled_from(CELLS), min_size=1, max_size=12),
    sample=st.lists(st.integers(1, 12), max_size=3).map(sorted),
)
def test_the_types_do_not_depend_on_the_size_of_the_sample(tmp_path_factory, cells, sample):
    path = tmp_path_factory.mktemp("cells") / "data.csv"
    path.write_text("y,x\n" + "".join(f"{number},{cell}\n" for number, cell in enumerate(cells)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type_inference, "SAMPLE_ROWS", sample)
        of_sample = read(path)
        patch.setattr(type_inference, "SAMPLE_ROWS", (len(cells),))
        of_all_rows = read(path)
    assert of_sample.schema == of_all_rows.schema
    assert of_sample.equals(of_all_rows)


# Cells that look like a number, a boolean or a time, valid and invalid.
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
    kind=st.none() | st.sampled_from(list(DTYPES)),
    sample=st.lists(st.integers(1, 6), max_size=2).map(sorted),
)
def test_the_fast_readers_read_the_same_values_as_the_tolerant_ones(tmp_path_factory, cells, kind, sample):
    path = tmp_path_factory.mktemp("readers") / "data.csv"
    pl.DataFrame({"y": range(len(cells)), "x": cells}).write_csv(path, quote_style="necessary")
    declared = {"x": kind} if kind else {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type_inference, "SAMPLE_ROWS", sample)
        fast = read(path, declared)
        tolerant = {name: readers[-1:] for name, readers in type_inference.DECLARED_READERS.items()}
        patch.setattr(type_inference, "DECLARED_READERS", tolerant)
        stripped = tuple(reader for reader in type_inference.UNDECLARED_READERS if reader.stripped)
        patch.setattr(type_inference, "UNDECLARED_READERS", stripped)
        slow = read(path, declared)
    assert fast.schema == slow.schema
    assert fast.equals(slow)
    # The lists also show the sign of a zero.
    assert str(fast["x"].to_list()) == str(slow["x"].to_list())


def test_a_declared_integer_is_exact_above_the_integers_of_a_float(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("n\n9007199254740993.0\n9007199254740993\n5.0\n1e3\n1e300\n")
    assert read(path, {"n": "integer"})["n"].to_list() == [9007199254740993, 9007199254740993, 5, 1000, None]
