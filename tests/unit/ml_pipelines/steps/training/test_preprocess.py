from __future__ import annotations

import math

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_pipelines.errors import DataError
from ml_pipelines.pipeline.step_parameters import PreprocessParameters
from ml_pipelines.steps.training.preprocess import preprocess


def flags(*rows):
    return pl.LazyFrame(rows, schema={"row": pl.UInt32, "reason": pl.String}, orient="row")


def run(frame, *rows):
    output = preprocess(table=frame.lazy(), flagged=flags(*rows), parameters=PreprocessParameters(target="y"), seed=0)
    return output.outputs["clean"].collect(), output.outputs["quarantine"].collect(), output.values


def test_preprocess_separates_rows_with_their_reasons():
    frame = pl.DataFrame(
        {
            "x": [1.0, math.inf, math.nan, 4.0, 5.0],
            "y": [0, 1, 1, None, None],
            "_bad_cells": [None, None, None, [{"column": "x", "type": "float", "cell": "a"}], None],
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


def test_preprocess_takes_a_target_of_nan_as_missing():
    clean, quarantine, _ = run(pl.DataFrame({"y": [1.0, math.nan]}))
    assert (clean["y"].to_list(), quarantine["_reason"].to_list()) == ([1.0], ["target is missing"])


def test_preprocess_reports_the_reasons_when_no_row_is_left():
    with pytest.raises(DataError, match="no row is left to train on") as caught:
        run(pl.DataFrame({"y": [None, None, 1]}), (2, "x is infinite"))
    assert caught.value.got == "2 rows: target is missing; 1 rows: x is infinite"


def test_preprocess_refuses_an_empty_table():
    with pytest.raises(DataError, match="no row is left to train on") as caught:
        run(pl.DataFrame(schema={"y": pl.Int64}))
    assert caught.value.got == "no rows"


@pytest.mark.parametrize("name", ["^y$", "*", 'a "b" c'])
def test_preprocess_takes_the_name_of_the_target_as_it_is(name):
    frame = pl.DataFrame({name: [1.0, math.nan, None], "y": [None, 1.0, math.nan]})
    output = preprocess(table=frame.lazy(), flagged=flags(), parameters=PreprocessParameters(target=name), seed=0)
    assert output.outputs["clean"].collect().rows() == [(1.0, None)]
    assert output.outputs["quarantine"].collect()["_row"].to_list() == [1, 2]


ROWS = st.lists(
    st.tuples(st.none() | st.text(max_size=3), st.none() | st.integers(0, 1), st.sampled_from([None, "a", "ü; b"])),
    max_size=30,
)


@settings(max_examples=40, deadline=None)
@given(ROWS)
def test_preprocess_keeps_or_quarantines_every_row_exactly_once(rows):
    rows = [*rows, ("kept", 1, None)]
    frame = pl.DataFrame(rows, schema={"x": pl.String, "y": pl.Int64, "flag": pl.String}, orient="row")
    clean, quarantine, values = run(frame, *((row, flag) for row, (_, _, flag) in enumerate(rows) if flag))
    kept = [row for row in rows if row[1] is not None and row[2] is None]
    assert clean.rows() == kept
    assert quarantine["_row"].to_list() == [row for row, cells in enumerate(rows) if cells not in kept]
    assert values["rows_in"] == len(rows) == values["kept"] + values["quarantined"]
    assert (values["kept"], values["quarantined"]) == (clean.height, quarantine.height)
    assert sum(values["quarantined_by_reason"].values()) == values["quarantined"]
