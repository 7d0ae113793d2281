from __future__ import annotations

from decimal import Decimal

import polars as pl
import pytest

from ml_pipelines.adapters.sql import source
from ml_pipelines.adapters.sql.source import SqlDataSource
from ml_pipelines.data.source_table import open_source
from ml_pipelines.data.type_inference import parse_columns
from ml_pipelines.errors import DataError, SourceUnreadable
from ml_pipelines.spec.sources import SqlSource

BIG, LONG = 2**64 - 1, Decimal("12345678901234567890")


@pytest.fixture
def fetched(tmp_path, monkeypatch):
    """Reads the chunks of a column `x` as a database driver returns them."""

    def of(*chunks) -> pl.DataFrame:
        monkeypatch.setattr(source, "_chunks", lambda *_: iter({"x": chunk} for chunk in chunks))
        rows = SqlDataSource(SqlSource(url="sqlite:///:memory:", query="select 1"), {})
        return pl.read_parquet(rows.fetch(rows.pin(), str(tmp_path)))

    return of


@pytest.mark.parametrize(
    ("chunks", "dtype", "values"),
    [
        ([[1, BIG], [2]], pl.Decimal(38, 0), [1, BIG, 2]),
        ([[1], [BIG, None]], pl.Decimal(38, 0), [1, BIG, None]),
        ([[LONG, Decimal(1)], [Decimal(2)]], pl.Decimal(38, 0), [LONG, 1, 2]),
        ([[Decimal(2)], [Decimal("2.50")]], pl.Float64, [2.0, 2.5]),
        ([[Decimal("5.00")], [Decimal("NaN")]], pl.Float64, [5.0, None]),
        ([[1, Decimal("0.5")], [3]], pl.Float64, [1.0, 0.5, 3.0]),
        ([[1], [2.5]], pl.Float64, [1.0, 2.5]),
    ],
)
def test_fetch_keeps_the_digits_of_numbers(fetched, chunks, dtype, values):
    column = fetched(*chunks)["x"]
    assert column.dtype == dtype
    assert column.fill_nan(None).to_list() == values if dtype == pl.Float64 else column.to_list() == values


def test_numbers_beyond_64_bits_become_text(fetched, tmp_path):
    fetched([1, BIG], [LONG])
    table = open_source(str(tmp_path / "rows.parquet"), "sql", str(tmp_path))
    cells = parse_columns(table, ["x"], {}).frame.collect()["x"]
    assert cells.to_list() == ["1", str(BIG), str(LONG)]


def test_fetch_refuses_numbers_of_more_than_38_digits(fetched):
    with pytest.raises(SourceUnreadable) as caught:
        fetched([10**40])
    assert "CAST" in caught.value.fix


def test_fetch_compares_the_rows_that_it_writes_with_those_that_it_reads(fetched, monkeypatch):
    monkeypatch.setattr(source, "_join", lambda parts, types, target: pl.DataFrame({"x": [1]}).write_parquet(target))
    with pytest.raises(DataError) as caught:
        fetched([1, 2], [3])
    assert (caught.value.expected, caught.value.got) == ("3 rows", "1 rows")
