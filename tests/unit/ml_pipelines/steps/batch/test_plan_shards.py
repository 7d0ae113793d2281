from __future__ import annotations

from itertools import accumulate

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_pipelines.errors import DataError
from ml_pipelines.pipeline.batch_parameters import PlanShardsParameters
from ml_pipelines.pipeline.step_parameters import RunOptions
from ml_pipelines.spec.batch import Shards
from ml_pipelines.steps.batch.plan_shards import plan_shards, shard_ranges

ROWS = st.integers(0, 10_000)
SIZES = st.integers(1, 3_000).map(lambda rows: Shards(rows=rows))
COUNTS = st.integers(1, 1_000).map(lambda count: Shards(count=count))


@given(ROWS, st.one_of(SIZES, COUNTS))
def test_shard_ranges_cover_every_row_once_and_none_is_empty(rows, shards):
    planned = shard_ranges(rows, shards)
    assert all(length >= 1 for _, length in planned)
    assert [first for first, _ in planned] == [0, *accumulate(length for _, length in planned)][: len(planned)]
    assert sum(length for _, length in planned) == rows


@given(ROWS, SIZES)
def test_shard_ranges_of_a_size_are_as_few_as_possible(rows, shards):
    lengths = [length for _, length in shard_ranges(rows, shards)]
    assert len(lengths) == -(-rows // shards.rows)
    assert set(lengths[:-1]) <= {shards.rows}


@given(ROWS, COUNTS)
def test_shard_ranges_of_a_number_have_almost_equal_sizes(rows, shards):
    lengths = [length for _, length in shard_ranges(rows, shards)]
    assert len(lengths) == min(rows, shards.count)
    assert not lengths or max(lengths) - min(lengths) <= 1


def plan(rows, shards):
    parameters = PlanShardsParameters(key="id", shards=shards)
    return plan_shards(table=pl.LazyFrame({"id": range(rows)}), parameters=parameters, seed=0)


def test_plan_shards_keeps_the_order_of_the_rows():
    output = plan(7, Shards(rows=3))
    assert output.values == {"rows": 7, "shards": [3, 3, 1], "warnings": []}
    ids = {name: table.collect()["id"].to_list() for name, table in output.outputs.items()}
    assert ids == {"shard_0": [0, 1, 2], "shard_1": [3, 4, 5], "shard_2": [6]}


def test_plan_shards_gives_a_reason_to_rows_whose_key_occurred_before():
    table = pl.LazyFrame(
        {"id": ["a", "b", "a", None, "c", None, "b", "a"], "x": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]}
    )
    output = plan_shards(table=table, parameters=PlanShardsParameters(key="id", shards=Shards(rows=5)), seed=0)
    shards = [output.outputs[f"shard_{index}"].collect() for index in range(2)]
    assert pl.concat(shards).drop("_reason").equals(table.collect())
    reason = "id occurred before"
    assert [shard["_reason"].to_list() for shard in shards] == [
        [None, None, reason, None, None],
        [None, reason, reason],
    ]
    assert output.values["warnings"] == [f"{reason} in 3 of 8 rows, which go to quarantine"]


@pytest.mark.parametrize("name", ["^id$", "*", 'a "b" c'])
def test_plan_shards_takes_column_names_as_they_are(name):
    table = pl.LazyFrame({name: [1.0, 1.0, float("inf")], "id": [1, 2, 3]})
    output = plan_shards(table=table, parameters=PlanShardsParameters(key=name, shards=Shards(count=1)), seed=0)
    assert output.outputs["shard_0"].collect()["_reason"].to_list() == [None, f"{name} occurred before", None]
    assert output.values["warnings"][0].startswith(f"{name} is infinite in 1 of 3 rows")


def test_plan_shards_adds_no_column_without_duplicate_keys():
    assert plan(7, Shards(rows=7)).outputs["shard_0"].collect_schema().names() == ["id"]


def test_plan_shards_warns_of_infinite_numbers():
    inf = float("inf")
    table = pl.LazyFrame({"id": [1, 2, 3], "x": [inf, -inf, None], "y": [float("nan"), 1.0, 2.0], "z": [1, 2, 3]})
    output = plan_shards(table=table, parameters=PlanShardsParameters(key="id", shards=Shards(count=1)), seed=0)
    (warning,) = output.values["warnings"]
    assert warning.startswith("x is infinite in 2 of 3 rows")
    assert output.outputs["shard_0"].collect().equals(table.collect(), null_equal=True)


def test_plan_shards_gives_no_shards_for_no_rows():
    output = plan(0, Shards(count=4))
    assert (output.outputs, output.values) == ({}, {"rows": 0, "shards": [], "warnings": []})


def test_plan_shards_refuses_more_shards_than_tasks_can_be_mapped():
    with pytest.raises(DataError, match="2001 rows would be 1001 shards") as caught:
        plan(2001, Shards(rows=2))
    assert "shards.rows to 3" in caught.value.fix
    assert len(plan(2001, Shards(rows=3)).outputs) == 667


def test_a_run_can_set_the_size_of_the_shards():
    parameters = PlanShardsParameters(key="id", shards=Shards(count=4))
    assert parameters.for_run(RunOptions()) == parameters
    assert parameters.for_run(RunOptions(shard_rows=10)).shards == Shards(rows=10)
