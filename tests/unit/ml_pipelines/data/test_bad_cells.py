from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_pipelines.data.bad_cells import (
    BAD_CELLS_DTYPE,
    bad_cell_text,
    bad_cells,
    has_bad_cell,
    row_reason,
    type_reason,
)
from ml_pipelines.data.column_expressions import BAD_CELLS, column

NAMES = ["x", "x; y", "^x$"]
KINDS = {"x": "float", "x; y": "integer", "^x$": "date"}
CELL = st.none() | st.text(max_size=6) | st.sampled_from(["x; y: 'z", "x is not a float", "'; x", '"', "\n"])


def marked(rows: list[tuple[str | None, ...]]) -> pl.LazyFrame:
    """A table in which every cell with text is bad."""
    table = pl.LazyFrame(rows, schema=dict.fromkeys(NAMES, pl.String), orient="row")
    return table.with_columns(bad_cells({name: (KINDS[name], column(name)) for name in NAMES}))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=8))
def test_bad_cells_belong_to_their_own_column_whatever_they_contain(rows: list[tuple[str | None, ...]]) -> None:
    table = marked(rows)
    assert table.collect_schema()[BAD_CELLS] == BAD_CELLS_DTYPE
    for position, name in enumerate(NAMES):
        cells = [row[position] for row in rows]
        result = table.select(has_bad_cell(name).alias("bad"), bad_cell_text(name)).collect(engine="streaming")
        assert result["bad"].to_list() == [cell is not None for cell in cells]
        assert result["cell"].to_list() == cells
    lists = table.collect()[BAD_CELLS].to_list()
    assert [entries is None for entries in lists] == [all(cell is None for cell in row) for row in rows]


def test_bad_cells_keeps_the_beginning_of_a_long_cell() -> None:
    cell = marked([("a" * 5000, None, None)]).select(bad_cell_text("x")).collect().item()
    assert cell == "a" * 1000


def test_row_reason_lists_all_bad_cells_of_a_row() -> None:
    reasons = marked([("a", "b", None), (None, None, None)]).select(row_reason()).collect().to_series().to_list()
    assert reasons == [f"{type_reason('x', 'float')}; {type_reason('x; y', 'integer')}", None]
    assert type_reason("x", "integer") == "x is not an integer"


def test_bad_cells_survive_a_parquet_file(tmp_path) -> None:
    table = marked([("a", None, "c"), (None, None, None)])
    table.sink_parquet(tmp_path / "table.parquet")
    assert pl.scan_parquet(tmp_path / "table.parquet").collect().equals(table.collect())
