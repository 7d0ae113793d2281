from __future__ import annotations

import polars as pl
import pytest

from ml_pipelines.contracts import ArtifactRef, DataPin, Identity, StepResult
from ml_pipelines.errors import DataError
from ml_pipelines.pipeline.batch_parameters import CollectScoresParameters, ShardScores
from ml_pipelines.steps.batch.collect_scores import collect_scores, resolve
from ml_pipelines.testing import FakeServices

SOMEBODY = Identity(pipeline="p", run_id="r", task_id="t")


def ref(text):
    return ArtifactRef(uri=f"memory://{text}", sha256=text * 64, bytes=1, kind="table")


def scores(*ids):
    return pl.LazyFrame({"id": ids, "prediction": ["stays"] * len(ids), "probability": [0.1] * len(ids)})


def aside(*ids):
    return pl.LazyFrame({"id": ids, "_reason": ["key is missing"] * len(ids)}, schema={"id": int, "_reason": str})


def collected(planned, shards, min_scored=0.5):
    """`shards`: index -> ids that are scored, and ids that are set aside."""
    done = tuple(
        ShardScores(index=index, rows=planned[index], scores=ref("a"), quarantine=ref("b")) for index in shards
    )
    parameters = CollectScoresParameters(
        key="id", min_scored=min_scored, model="churn", version="3", data="md5:1f", planned=planned, done=done
    )
    return collect_scores(
        scores=[scores(*good) for good, _ in shards.values()],
        quarantines=[aside(*bad) for _, bad in shards.values()],
        parameters=parameters,
        seed=0,
    )


def test_all_scores_in_one_table_that_says_where_they_come_from():
    made = collected((2, 1), {0: ((1, 2), ()), 1: ((3,), ())})
    table = made.outputs["scores"].collect()
    assert table.columns == ["id", "prediction", "probability", "model", "model_version", "data"]
    assert table["id"].to_list() == [1, 2, 3]
    assert table.select("model", "model_version", "data").unique().row(0) == ("churn", "3", "md5:1f")
    assert made.values == {
        "outcome": "complete",
        "rows": 3,
        "scored": 3,
        "quarantined": 0,
        "failed": 0,
        "failed_shards": [],
        "quarantined_by_reason": {},
    }


def test_within_the_share_a_failed_shard_is_named_and_every_row_accounted_for():
    made = collected((2, 2, 2), {0: ((1, 2), ()), 2: ((5,), (6,))})
    told = {name: made.values[name] for name in ("outcome", "rows", "scored", "quarantined", "failed", "failed_shards")}
    assert told == {
        "outcome": "partial",
        "rows": 6,
        "scored": 3,
        "quarantined": 1,
        "failed": 2,
        "failed_shards": [1],
    }
    assert made.outputs["quarantine"].collect()["id"].to_list() == [6]


def test_beyond_the_share_nothing_is_handed_on():
    with pytest.raises(DataError, match="too few rows could be scored") as caught:
        collected((2, 2, 2), {0: ((1, 2), ()), 2: ((5,), (6,))}, min_scored=0.51)
    assert caught.value.where == "model churn version 3"
    assert caught.value.expected == "at least 51.0% of the rows, as min_scored says"
    assert caught.value.got == (
        "3 of 6 rows have a score; failed: shard 1 (rows 3 to 4); 1 rows set aside: key is missing"
    )
    assert caught.value.fix == (
        "mend what the shards' tasks tell and clear those that failed: the others are found in the store"
    )


def test_rows_set_aside_are_for_the_source_to_mend_and_not_for_a_shard():
    with pytest.raises(DataError, match="too few rows could be scored") as caught:
        collected((2, 2), {0: ((1, 2), ()), 1: ((3,), (4,))}, min_scored=1.0)
    assert caught.value.got == "3 of 4 rows have a score; 1 rows set aside: key is missing"
    assert (
        caught.value.fix
        == "correct these rows at the source, or lower min_scored if the other rows may do without them"
    )


def test_no_shard_that_has_not_failed_is_beyond_any_share_and_no_shard_at_all_is_empty():
    with pytest.raises(DataError, match="too few"):
        collected((2, 2), {}, min_scored=0.01)
    made = collected((), {}, min_scored=1.0)
    assert made.values["outcome"] == "empty"
    table = made.outputs["scores"].collect()
    assert (len(table), table.columns) == (0, ["id", "prediction", "model", "model_version", "data"])


def test_rows_that_do_not_add_up_are_no_result():
    with pytest.raises(DataError, match="the rows of the shards do not add up") as caught:
        collected((2, 2), {0: ((1, 2), ()), 1: ((3,), ())})
    assert caught.value.got == "3 scored, 0 set aside, 0 in shards that failed"


def result(step, values, **outputs):
    return StepResult(step=step, key="0" * 64, status="computed", reason="miss", values=values, outputs=outputs)


@pytest.mark.parametrize(("digest", "data"), [("md5:1f", "md5:1f"), (None, f"sha256:{'c' * 64}")])
def test_the_parameters_of_a_run_tell_what_was_planned_and_done(digest, data):
    pin = DataPin(source="sql", location="here", digest=digest).model_dump(mode="json")
    batch = result("ingest_batch", {"pin": pin, "model": {"version": "3"}}, table=ref("c"))
    plan = result("plan_shards", {"rows": 5, "shards": [2, 2, 1]})
    shards = [result("score_shard", {"shard": index}, scores=ref("a"), quarantine=ref("b")) for index in (2, 0)]
    told = CollectScoresParameters(key="id", min_scored=1.0, model="churn").for_results(batch, plan, shards)
    assert (told.version, told.data, told.planned) == ("3", data, (2, 2, 1))
    assert [(each.index, each.rows) for each in told.done] == [(0, 2), (2, 1)]
    found = resolve(told, {}, FakeServices(), SOMEBODY)
    assert (found.inputs["scores"], found.key_facts) == ((ref("a"), ref("a")), {"done": [0, 2]})
