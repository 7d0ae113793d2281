from __future__ import annotations

from itertools import accumulate

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_pipelines.errors import DataError
from ml_pipelines.pipeline.batch_parameters import PlanShardsParameters
from ml_pipelines.pipeline.parameters import RunOptions
from ml_pipelines.spec.batch import Shards
from ml_pipelines.steps.batch.plan_shards import plan_shards, shard_ranges

ROWS = st.integers(0, 10_000)
SIZES = st.integers(1, 3_000).map(lambda rows: Shards(rows=rows))
COUNTS = st.integers(1, 1_000).map(lambda count: Shards(count=count))


@given(ROWS, st.one_of(SIZES, COUNTS))
def test_shards_are_all_rows_each_once_and_none_is_empty(rows, shards):
    planned = shard_ranges(rows, shards)
    assert all(length >= 1 for _, length in planned)
    assert [first for first, _ in planned] == [0, *accumulate(length for _, length in planned)][: len(planned)]
    assert sum(length for _, length in planned) == rows


@given(ROWS, SIZES)
def test_there_are_as_many_shards_of_a_size_as_the_rows_need(rows, shards):
    lengths = [length for _, length in shard_ranges(rows, shards)]
    assert len(lengths) == -(-rows // shards.rows)
    assert set(lengths[:-1]) <= {shards.rows}


@given(ROWS, COUNTS)
def test_there_are_as_many_shards_as_asked_for_of_equal_size(rows, shards):
    lengths = [length for _, length in shard_ranges(rows, shards)]
    assert len(lengths) == min(rows, shards.count)
    assert not lengths or max(lengths) - min(lengths) <= 1


def plan(rows, shards):
    parameters = PlanShardsParameters(key="id", shards=shards)
    return plan_shards(table=pl.LazyFrame({"id": range(rows)}), parameters=parameters, seed=0)


def test_a_plan_holds_the_rows_in_their_order():
    made = plan(7, Shards(rows=3))
    assert made.values == {"rows": 7, "shards": [3, 3, 1], "warnings": []}
    ids = {name: table.collect()["id"].to_list() for name, table in made.outputs.items()}
    assert ids == {"shard_0": [0, 1, 2], "shard_1": [3, 4, 5], "shard_2": [6]}


def test_a_key_that_occurred_before_is_set_aside_in_whichever_shard_it_is():
    table = pl.LazyFrame(
        {
            "id": ["a", "b", "a", None, "c", None, "b", "a"],
            "x": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0],
            "_bad_cells": [None, None, None, None, None, None, "x: 'much' is not a float", None],
        }
    )
    made = plan_shards(table=table, parameters=PlanShardsParameters(key="id", shards=Shards(rows=5)), seed=0)
    shards = [made.outputs[f"shard_{index}"].collect() for index in range(2)]
    assert pl.concat(shards).drop("_bad_cells").equals(table.drop("_bad_cells").collect())
    assert [shard["_bad_cells"].to_list() for shard in shards] == [
        [None, None, "id occurred before", None, None],
        [None, "x: 'much' is not a float; id occurred before", "id occurred before"],
    ]
    assert made.values["warnings"] == ["id occurred before in 3 of 8 rows, which are set aside"]
    without = plan_shards(
        table=table.drop("_bad_cells"), parameters=PlanShardsParameters(key="id", shards=Shards(count=1)), seed=0
    )
    assert without.outputs["shard_0"].collect()["_bad_cells"].null_count() == 5


def test_a_batch_without_such_keys_keeps_its_columns():
    assert plan(7, Shards(rows=7)).outputs["shard_0"].collect_schema().names() == ["id"]


def test_infinite_numbers_are_told():
    inf = float("inf")
    table = pl.LazyFrame({"id": [1, 2, 3], "x": [inf, -inf, None], "y": [float("nan"), 1.0, 2.0], "z": [1, 2, 3]})
    made = plan_shards(table=table, parameters=PlanShardsParameters(key="id", shards=Shards(count=1)), seed=0)
    assert made.values["warnings"] == ["x is infinite in 2 of 3 rows: to the model that is the same as missing"]
    assert made.outputs["shard_0"].collect().equals(table.collect(), null_equal=True)


def test_no_rows_are_no_shards():
    made = plan(0, Shards(count=4))
    assert (made.outputs, made.values) == ({}, {"rows": 0, "shards": [], "warnings": []})


def test_more_shards_than_tasks_can_be_mapped_are_told_with_the_size_that_fits():
    with pytest.raises(DataError, match="2001 rows would be 1001 shards") as caught:
        plan(2001, Shards(rows=2))
    assert caught.value.fix == "set shards.rows to 3 or more"
    assert len(plan(2001, Shards(rows=3)).outputs) == 667


def test_a_run_may_ask_for_another_size():
    parameters = PlanShardsParameters(key="id", shards=Shards(count=4))
    assert parameters.for_run(RunOptions()) == parameters
    assert parameters.for_run(RunOptions(shard_rows=10)).shards == Shards(rows=10)
