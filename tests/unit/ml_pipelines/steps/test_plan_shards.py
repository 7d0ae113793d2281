from __future__ import annotations

from itertools import accumulate

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_pipelines.batch_parameters import PlanShardsParameters
from ml_pipelines.batch_spec import Shards
from ml_pipelines.errors import DataError
from ml_pipelines.parameters import RunOptions
from ml_pipelines.steps.plan_shards import plan_shards, shards_of

ROWS = st.integers(0, 10_000)
SIZES = st.integers(1, 3_000).map(lambda rows: Shards(rows=rows))
COUNTS = st.integers(1, 1_000).map(lambda count: Shards(count=count))


@given(ROWS, st.one_of(SIZES, COUNTS))
def test_shards_are_all_rows_each_once_and_none_is_empty(rows, shards):
    planned = shards_of(rows, shards)
    assert all(length >= 1 for _, length in planned)
    assert [first for first, _ in planned] == [0, *accumulate(length for _, length in planned)][: len(planned)]
    assert sum(length for _, length in planned) == rows


@given(ROWS, SIZES)
def test_there_are_as_many_shards_of_a_size_as_the_rows_need(rows, shards):
    lengths = [length for _, length in shards_of(rows, shards)]
    assert len(lengths) == -(-rows // shards.rows)
    assert set(lengths[:-1]) <= {shards.rows}


@given(ROWS, COUNTS)
def test_there_are_as_many_shards_as_asked_for_of_equal_size(rows, shards):
    lengths = [length for _, length in shards_of(rows, shards)]
    assert len(lengths) == min(rows, shards.count)
    assert not lengths or max(lengths) - min(lengths) <= 1


def plan(rows, shards):
    parameters = PlanShardsParameters(shards=shards)
    return plan_shards(table=pl.LazyFrame({"id": range(rows)}), parameters=parameters, seed=0)


def test_a_plan_holds_the_rows_in_their_order():
    made = plan(7, Shards(rows=3))
    assert made.values == {"rows": 7, "shards": [3, 3, 1]}
    ids = {name: table.collect()["id"].to_list() for name, table in made.outputs.items()}
    assert ids == {"shard_0": [0, 1, 2], "shard_1": [3, 4, 5], "shard_2": [6]}


def test_no_rows_are_no_shards():
    made = plan(0, Shards(count=4))
    assert (made.outputs, made.values) == ({}, {"rows": 0, "shards": []})


def test_more_shards_than_tasks_can_be_mapped_are_told_with_the_size_that_fits():
    with pytest.raises(DataError, match="2001 rows would be 1001 shards") as caught:
        plan(2001, Shards(rows=2))
    assert caught.value.fix == "set shards.rows to 3 or more"
    assert len(plan(2001, Shards(rows=3)).outputs) == 667


def test_a_run_may_ask_for_another_size():
    parameters = PlanShardsParameters(shards=Shards(count=4))
    assert parameters.for_run(RunOptions()) == parameters
    assert parameters.for_run(RunOptions(shard_rows=10)).shards == Shards(rows=10)
