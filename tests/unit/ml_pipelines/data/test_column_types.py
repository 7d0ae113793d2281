from __future__ import annotations

import datetime as dt
from decimal import Decimal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml_pipelines.data.source_table import open_source, source_errors
from ml_pipelines.data.type_inference import parse_columns
from ml_pipelines.errors import SourceUnreadable

BIG = 2**64 - 1


@pytest.fixture
def read(tmp_path):
    """Reads a Parquet column `x`."""

    def of(values, dtype, *, kind=None, key=None) -> pl.Series:
        pq.write_table(pa.table({"x": pa.array(values, dtype), "y": list(range(len(values)))}), tmp_path / "d.parquet")
        source = open_source(str(tmp_path / "d.parquet"), "s3://b", str(tmp_path))
        with source_errors(source):
            return parse_columns(source, ["x"], {"x": kind} if kind else {}, key).frame.collect()["x"]

    return of


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([1, None, BIG], pa.uint64(), ["1", None, str(BIG)]),
        ([1, None, 2**63 - 1], pa.uint64(), [1, None, 2**63 - 1]),
        ([Decimal(10**30), Decimal(7)], pa.decimal128(38, 0), [str(10**30), "7"]),
        ([Decimal(7)], pa.decimal128(38, 0), [7]),
        ([Decimal("7.50")], pa.decimal128(10, 2), [7.5]),
        ([dt.time(1, 2, 3)], pa.time64("us"), ["01:02:03"]),
        ([None], pa.null(), [None]),
    ],
)
def test_a_column_becomes_the_type_that_holds_its_values(read, values, dtype, expected):
    assert read(values, dtype).to_list() == expected


@pytest.mark.parametrize("options", [{"kind": "string"}, {"key": "x"}])
def test_numbers_are_readable_as_text_and_as_key_with_all_digits(read, options):
    assert read([1, BIG], pa.uint64(), **options).to_list() == ["1", str(BIG)]
    decimals = [Decimal("12345678901234567890.01"), Decimal("1.00")]
    assert read(decimals, pa.decimal128(38, 2), **options).to_list() == ["12345678901234567890.01", "1.00"]


def test_bytes_are_readable_as_text_where_that_is_declared(read):
    assert read(["größe".encode()], pa.binary(), kind="string").to_list() == ["größe"]
    with pytest.raises(SourceUnreadable) as caught:
        read([b"\xff"], pa.binary(), kind="string")
    assert caught.value.where == "s3://b"


@pytest.mark.parametrize(
    ("values", "dtype", "fix"),
    [
        ([[1]], pa.list_(pa.int64()), "data.ignore"),
        ([{"a": 1}], pa.struct([("a", pa.int64())]), "data.ignore"),
        ([b"x"], pa.binary(), "data.columns.x.type: string"),
        ([dt.timedelta(1)], pa.duration("s"), "a number, for example of seconds"),
        ([Decimal(1)], pa.decimal256(50, 0), "write the file again"),
    ],
)
def test_other_types_are_refused_with_the_fix(read, values, dtype, fix):
    with pytest.raises(SourceUnreadable) as caught:
        read(values, dtype)
    assert (caught.value.where, fix in caught.value.fix) == ("s3://b", True)
