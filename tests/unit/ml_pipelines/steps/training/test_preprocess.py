from __future__ import annotations

import math

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_pipelines.errors import DataError
from ml_pipelines.pipeline.parameters import PreprocessParameters
from ml_pipelines.steps.training.preprocess import preprocess


def flags(*rows):
    return pl.LazyFrame(rows, schema={"row": pl.UInt32, "reason": pl.String}, orient="row")


def run(frame, *rows):
    output = preprocess(table=frame.lazy(), flagged=flags(*rows), parameters=PreprocessParameters(target="y"), seed=0)
    return output.outputs["clean"].collect(), output.outputs["quarantine"].collect(), output.values


def test_rows_are_parted_with_their_reasons():
    frame = pl.DataFrame(
        {
            "x": [1.0, math.inf, math.nan, 4.0, 5.0],
            "y": [0, 1, 1, None, None],
            "_bad_cells": [None, None, None, "x: 'a' is not a float", None],
        }
    )
    clean, quarantine, values = run(frame, (1, "x is infinite"), (3, "x is not a float"))
    assert clean.rows() == [(1.0, 0), (None, 1)]
    assert clean.columns == ["x", "y"]
    assert quarantine.select(frame.columns).equals(frame[[1, 3, 4]])
    assert quarantine.select("_row", "_reason").rows() == [
        (1, "x is infinite"),
        (3, "x is not a float; target is missing"),
        (4, "target is missing"),
    ]
    assert values == {
        "rows_in": 5,
        "kept": 2,
        "quarantined": 3,
        "quarantined_by_reason": {
            "target is missing": 1,
            "x is infinite": 1,
            "x is not a float; target is missing": 1,
        },
    }


def test_a_target_that_is_not_a_number_is_missing():
    clean, quarantine, _ = run(pl.DataFrame({"y": [1.0, math.nan]}))
    assert (clean["y"].to_list(), quarantine["_reason"].to_list()) == ([1.0], ["target is missing"])


def test_nothing_left_is_an_error_with_the_reasons():
    with pytest.raises(DataError, match="no row is left to train on") as caught:
        run(pl.DataFrame({"y": [None, None, 1]}), (2, "x is infinite"))
    assert caught.value.got == "2 rows: target is missing; 1 rows: x is infinite"
    assert caught.value.fix == "correct the data, or the rules that set the rows aside"


def test_an_empty_table_is_an_error():
    with pytest.raises(DataError, match="no row is left to train on") as caught:
        run(pl.DataFrame(schema={"y": pl.Int64}))
    assert caught.value.got == "no rows"


ROWS = st.lists(
    st.tuples(st.none() | st.text(max_size=3), st.none() | st.integers(0, 1), st.sampled_from([None, "a", "ü; b"])),
    max_size=30,
)


@settings(max_examples=40, deadline=None)
@given(ROWS)
def test_every_row_is_in_exactly_one_place(rows):
    rows = [*rows, ("kept", 1, None)]
    frame = pl.DataFrame(rows, schema={"x": pl.String, "y": pl.Int64, "flag": pl.String}, orient="row")
    clean, quarantine, values = run(frame, *((row, flag) for row, (_, _, flag) in enumerate(rows) if flag))
    kept = [row for row in rows if row[1] is not None and row[2] is None]
    assert clean.rows() == kept
    assert quarantine["_row"].to_list() == [row for row, cells in enumerate(rows) if cells not in kept]
    assert values["rows_in"] == len(rows) == values["kept"] + values["quarantined"]
    assert (values["kept"], values["quarantined"]) == (clean.height, quarantine.height)
    assert sum(values["quarantined_by_reason"].values()) == values["quarantined"]
