"""Read generated tables of many types from Parquet and SQL: the same rows and values, or an error of this package."""

from __future__ import annotations

import datetime as dt
import random
import sqlite3
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml_pipelines.adapters.sql.source import SqlDataSource
from ml_pipelines.data.source_table import SourceTable, open_source, source_errors
from ml_pipelines.data.type_inference import parse_columns
from ml_pipelines.errors import NoRows, PipelineError
from ml_pipelines.spec.sources import SqlSource

TABLES = 2_000
PARTS = 4

Numbers = random.Random


def _whole(bits: int, *, signed: bool) -> Callable[[Numbers], int]:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return lambda rng: rng.choice((low, high, 0, 1, rng.randint(low, high), rng.randint(0, 100)))


def _digits(precision: int, scale: int) -> Callable[[Numbers], Decimal]:
    return lambda rng: Decimal(rng.randint(0, 10 ** rng.randint(1, precision) - 1)).scaleb(-scale)


def _text(rng: Numbers) -> str:
    return rng.choice(("a", "007", "größe", "a,b", 'say "hi"', "two\nlines", "12345678901234567890", " "))


# Types, each with a function that returns a value.
TYPES: list[tuple[pa.DataType, Callable[[Numbers], Any]]] = [
    *((getattr(pa, f"int{bits}")(), _whole(bits, signed=True)) for bits in (8, 16, 32, 64)),
    *((getattr(pa, f"uint{bits}")(), _whole(bits, signed=False)) for bits in (8, 16, 32, 64, 64)),
    (pa.float16(), lambda rng: float(rng.randint(-100, 100))),
    (pa.float32(), lambda rng: rng.choice((0.5, -1.25, 3.0, float("nan"), float("inf")))),
    (pa.float64(), lambda rng: rng.choice((0.1, 1e300, -2.0, float("nan")))),
    (pa.bool_(), lambda rng: rng.random() < 0.5),
    (pa.string(), _text),
    (pa.large_string(), _text),
    (pa.string_view(), _text),
    (pa.dictionary(pa.int32(), pa.string()), _text),
    (pa.dictionary(pa.int8(), pa.int64()), lambda rng: rng.randint(0, 5)),
    (pa.date32(), lambda rng: dt.date(2026, 1, 1) + dt.timedelta(rng.randint(-9000, 9000))),
    (pa.timestamp("s"), lambda rng: dt.datetime(2026, 1, 1, rng.randint(0, 23))),
    (pa.timestamp("us", "Europe/Rome"), lambda rng: dt.datetime(2026, 7, 1, rng.randint(0, 23), tzinfo=dt.UTC)),
    (pa.timestamp("ns", "+02:00"), lambda rng: dt.datetime(2026, 7, 1, rng.randint(0, 23), tzinfo=dt.UTC)),
    (pa.time64("us"), lambda rng: dt.time(rng.randint(0, 23), 5)),
    (pa.decimal128(38, 0), _digits(38, 0)),
    (pa.decimal128(10, 0), _digits(10, 0)),
    (pa.decimal128(12, 2), _digits(12, 2)),
    (pa.decimal256(50, 0), _digits(50, 0)),
    (pa.null(), lambda rng: None),
    (pa.binary(), lambda rng: rng.choice((b"text", "größe".encode(), b"\xff"))),
    (pa.binary(4), lambda rng: b"abcd"),
    (pa.duration("s"), lambda rng: dt.timedelta(seconds=rng.randint(0, 9))),
    (pa.list_(pa.int64()), lambda rng: [1] * rng.randint(0, 3)),
    (pa.struct([("a", pa.int64())]), lambda rng: {"a": 1}),
    (pa.map_(pa.string(), pa.int64()), lambda rng: [("a", 1)]),
]
NAMES = ("id", "^x$", "*", "a b", "größe", "x.y", "", 'a "b"', "^.*$", "1", "__index_level_0__", " ")
DECLARED = (None, None, None, "string", "integer", "float", "date")


def random_table(rng: Numbers) -> pa.Table:
    rows = rng.choice((0, 1, 2, 5, 9, 40))
    names = rng.sample(NAMES, rng.randint(1, 5))
    chosen = [rng.choice(TYPES) for _ in names]
    columns = [
        pa.array([None if rng.random() < 0.2 else value(rng) for _ in range(rows)], type=dtype)
        for dtype, value in chosen
    ]
    return pa.Table.from_arrays(columns, names=names)


def outcome_of(source: SourceTable, declared: dict[str, Any], key: str | None) -> pl.DataFrame | PipelineError:
    try:
        with source_errors(source):
            table = parse_columns(source, source.columns, declared, key)
            frame = table.frame.collect(engine="streaming")
    except PipelineError as exc:
        return exc
    assert len(frame) == table.rows == source.rows - table.empty
    return frame


def assert_values(got: pl.Series, values: list[Any], name: str) -> None:
    """Check that no value is lost, and that whole numbers and texts are exact."""
    assert got.null_count() == sum(value is None for value in values), name
    for cell, value in zip(got.to_list(), values, strict=True):
        if isinstance(value, int | str | Decimal):
            assert cell == (float(value) if isinstance(cell, float) else type(cell)(value)), name


def opened(path: Path, location: str) -> SourceTable | PipelineError:
    try:
        return open_source(str(path), location, str(path.parent))
    except PipelineError as exc:
        return exc


def check_table(table: pa.Table, path: Path, rng: Numbers) -> str:
    pq.write_table(table, path, row_group_size=rng.choice((1, 3, 100)))
    declared = {name: kind for name in table.column_names if (kind := rng.choice(DECLARED))}
    key = rng.choice((None, *table.column_names))
    source = opened(path, "s3://b/rows.parquet")
    assert isinstance(source, PipelineError) or source.rows == len(table)
    frame = source if isinstance(source, PipelineError) else outcome_of(source, declared, key)
    if isinstance(frame, PipelineError):
        assert frame.fix
        return "no rows" if isinstance(frame, NoRows) else "refused"
    rows = [row for row in table.to_pylist() if any(value is not None for value in row.values())]
    for name in set(table.column_names) - set(declared):
        assert_values(frame[:, frame.columns.index(name)], [row[name] for row in rows], name)
    return "read"


@pytest.mark.parametrize("part", range(PARTS))
def test_a_parquet_table_keeps_its_rows_and_values_or_is_refused(part: int, tmp_path: Path) -> None:
    outcomes = Counter[str]()
    for seed in range(part, TABLES, PARTS):
        rng = random.Random(seed)
        table = random_table(rng)
        try:
            outcomes[check_table(table, tmp_path / "rows.parquet", rng)] += 1
        except BaseException as exc:
            exc.add_note(f"table {seed}: {table.schema} {table.slice(0, 9).to_pylist()}")
            raise
    assert min(outcomes["read"], outcomes["refused"]) > TABLES / PARTS / 10, outcomes


SQL_VALUES: list[Callable[[Numbers], Any]] = [
    lambda rng: rng.randint(-(2**63), 2**63 - 1),
    lambda rng: rng.randint(0, 1),
    lambda rng: rng.random(),
    _text,
    lambda rng: rng.choice((1, 0.5)),
    lambda rng: rng.choice((1, "a")),
    lambda rng: b"\xff",
    lambda rng: None,
]


@pytest.mark.parametrize("seed", range(40))
def test_an_sql_table_keeps_its_rows_and_values_or_is_refused(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    columns = [rng.choice(SQL_VALUES) for _ in range(rng.randint(1, 4))]
    rows = [
        tuple(None if rng.random() < 0.1 else value(rng) for value in columns) for _ in range(rng.choice((0, 1, 9, 30)))
    ]
    with sqlite3.connect(tmp_path / "d.db") as connection:
        connection.execute(f"CREATE TABLE t ({', '.join(f'c{number}' for number in range(len(columns)))})")
        connection.executemany("INSERT INTO t VALUES (" + ", ".join("?" * len(columns)) + ")", rows)  # noqa: S608 - no outside text
    connection.close()
    source = SqlDataSource(SqlSource(url=f"sqlite:///{tmp_path}/d.db", query="SELECT * FROM t", chunk_rows=7), {})
    table = fetched(source, tmp_path)
    if isinstance(table, PipelineError):
        assert isinstance(table, NoRows) == (not rows)
        return
    assert table.rows == len(rows)
    frame = outcome_of(table, {}, None)
    kept = [row for row in rows if any(value is not None for value in row)]
    assert isinstance(frame, NoRows) if not kept else frame.rows() == kept


def fetched(source: SqlDataSource, folder: Path) -> SourceTable | PipelineError:
    try:
        return opened(Path(source.fetch(source.pin(), str(folder))), "sqlite")
    except PipelineError as exc:
        return exc
