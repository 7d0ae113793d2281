from __future__ import annotations

import polars as pl
import pytest

from ml_pipelines.contracts import ArtifactRef, DataPin, Identity, StepResult
from ml_pipelines.errors import DataError
from ml_pipelines.pipeline.batch_parameters import CollectScoresParameters, ShardScores
from ml_pipelines.steps.batch.collect_scores import collect_scores, resolve
from ml_pipelines.testing import FakeServices

IDENTITY = Identity(pipeline="p", run_id="r", task_id="t")


def ref(text):
    return ArtifactRef(uri=f"memory://{text}", sha256=text * 64, bytes=1, kind="table")


def scores(*ids):
    return pl.LazyFrame({"id": ids, "prediction": ["stays"] * len(ids), "probability": [0.1] * len(ids)})


def quarantined(*ids):
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
        quarantines=[quarantined(*bad) for _, bad in shards.values()],
        parameters=parameters,
        seed=0,
    )


def test_collect_scores_joins_all_scores_with_their_model_and_data():
    output = collected((2, 1), {0: ((1, 2), ()), 1: ((3,), ())})
    table = output.outputs["scores"].collect()
    assert table.columns == ["id", "prediction", "probability", "model", "model_version", "data"]
    assert table["id"].to_list() == [1, 2, 3]
    assert table.select("model", "model_version", "data").unique().row(0) == ("churn", "3", "md5:1f")
    assert output.values == {
        "outcome": "complete",
        "rows": 3,
        "scored": 3,
        "quarantined": 0,
        "failed": 0,
        "failed_shards": [],
        "quarantined_by_reason": {},
    }


def test_collect_scores_accounts_for_the_rows_of_a_failed_shard():
    output = collected((2, 2, 2), {0: ((1, 2), ()), 2: ((5,), (6,))})
    counts = {
        name: output.values[name] for name in ("outcome", "rows", "scored", "quarantined", "failed", "failed_shards")
    }
    assert counts == {
        "outcome": "partial",
        "rows": 6,
        "scored": 3,
        "quarantined": 1,
        "failed": 2,
        "failed_shards": [1],
    }
    assert output.outputs["quarantine"].collect()["id"].to_list() == [6]


def test_collect_scores_lists_failed_shards_when_too_few_rows_have_a_score():
    with pytest.raises(DataError) as caught:
        collected((2, 2, 2), {0: ((1, 2), ()), 2: ((5,), (6,))}, min_scored=0.51)
    assert caught.value.where == "model churn version 3"
    assert "51.0%" in caught.value.expected
    facts = ("3 of 6 rows", "shard 1 (rows 3 to 4)", "1 rows in quarantine: key is missing")
    assert all(fact in caught.value.got for fact in facts)
    assert "failed shards" in caught.value.fix


def test_collect_scores_lists_the_reasons_of_quarantined_rows_when_too_few_rows_have_a_score():
    with pytest.raises(DataError) as caught:
        collected((2, 2), {0: ((1, 2), ()), 1: ((3,), (4,))}, min_scored=1.0)
    assert "1 rows in quarantine: key is missing" in caught.value.got
    assert "min_scored" in caught.value.fix
    assert "shard" not in caught.value.fix


def test_collect_scores_refuses_a_batch_of_failed_shards_and_accepts_an_empty_batch():
    with pytest.raises(DataError, match="too few"):
        collected((2, 2), {}, min_scored=0.01)
    output = collected((), {}, min_scored=1.0)
    assert output.values["outcome"] == "empty"
    table = output.outputs["scores"].collect()
    assert (len(table), table.columns) == (0, ["id", "prediction", "model", "model_version", "data"])


def test_collect_scores_refuses_rows_that_do_not_add_up():
    with pytest.raises(DataError, match="the rows of the shards do not add up") as caught:
        collected((2, 2), {0: ((1, 2), ()), 1: ((3,), ())})
    assert caught.value.got.startswith("3 scored, 0 in quarantine, 0 in")


def result(step, values, **outputs):
    return StepResult(step=step, key="0" * 64, status="computed", reason="miss", values=values, outputs=outputs)


@pytest.mark.parametrize(("digest", "data"), [("md5:1f", "md5:1f"), (None, f"sha256:{'c' * 64}")])
def test_for_results_sets_the_planned_and_the_finished_shards(digest, data):
    pin = DataPin(source="sql", location="here", digest=digest).model_dump(mode="json")
    batch = result("ingest_batch", {"pin": pin, "model": {"version": "3"}}, table=ref("c"))
    plan = result("plan_shards", {"rows": 5, "shards": [2, 2, 1]})
    shards = [result("score_shard", {"shard": index}, scores=ref("a"), quarantine=ref("b")) for index in (2, 0)]
    parameters = CollectScoresParameters(key="id", min_scored=1.0, model="churn").for_results(batch, plan, shards)
    assert (parameters.version, parameters.data, parameters.planned) == ("3", data, (2, 2, 1))
    assert [(shard.index, shard.rows) for shard in parameters.done] == [(0, 2), (2, 1)]
    resolution = resolve(parameters, {}, FakeServices(), IDENTITY)
    assert (resolution.inputs["scores"], resolution.key_facts) == ((ref("a"), ref("a")), {"done": [0, 2]})
