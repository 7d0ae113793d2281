from __future__ import annotations

import polars as pl
import pytest

from ml_pipelines.contracts import Identity
from ml_pipelines.errors import DataError, ModelError, RequestError
from ml_pipelines.modeling.features import feature_frame, predict
from ml_pipelines.pipeline.batch_parameters import ScoreShardParameters
from ml_pipelines.steps.batch.score_shard import resolve, score_shard
from ml_pipelines.testing import FakeServices

SOMEBODY = Identity(pipeline="p", run_id="r", task_id="t")
PARAMETERS = ScoreShardParameters(key="id", keep=("colour",))


@pytest.fixture
def scored(make_run):
    """Scores a table with the first candidate of a kind of task."""

    def of(kind, table=None, parameters=PARAMETERS, model=None):
        run = make_run(kind)
        rows = run.test.drop("label") if table is None else table
        loader = model or run.loader(run.models[0])
        return run, score_shard(shard=rows, model=loader, training=run.records[0], parameters=parameters, seed=0)

    return of


def test_two_classes_give_the_label_and_the_probability_of_a_hit(scored):
    run, made = scored("binary")
    table = made.outputs["scores"].collect()
    assert table.columns == ["id", "colour", "prediction", "probability"]
    training = run.records[0]
    expected = predict(run.loader(run.models[0])(), feature_frame(run.test, training["features"]), training)
    assert table["probability"].to_list() == expected.tolist()
    assert table["prediction"].to_list() == ["bad" if each >= 0.5 else "good" for each in expected]
    assert set(table["prediction"]) == {"bad", "good"}
    assert table["id"].to_list() == list(range(150))
    assert made.values == {"rows": 150, "scored": 150, "quarantined": 0, "quarantined_by_reason": {}}


def test_three_classes_give_a_probability_each(scored):
    _, made = scored("multiclass")
    table = made.outputs["scores"].collect()
    assert table.columns[2:] == ["prediction", "probability_0", "probability_1", "probability_2"]
    assert table["prediction"].dtype == pl.Int64
    sums = table.select(pl.sum_horizontal("^probability_.*$")).to_series()
    assert sums.is_between(1 - 1e-9, 1 + 1e-9).all()
    best = table.select(pl.concat_list("^probability_.*$").list.arg_max()).to_series()
    assert table["prediction"].to_list() == best.to_list()


def test_a_regression_gives_a_number(scored):
    run, made = scored("regression")
    table = made.outputs["scores"].collect()
    assert table.columns == ["id", "colour", "prediction"]
    training = run.records[0]
    expected = predict(run.loader(run.models[0])(), feature_frame(run.test, training["features"]), training)
    assert table["prediction"].to_list() == expected.tolist()


TABLE = pl.LazyFrame(
    {
        "id": ["a", None, "c", "d"],
        "x": [1.0, 2.0, None, None],
        "colour": ["red", "red", "red", "blue"],
        "_bad_cells": [None, None, "x: 'much' is not a float", None],
    }
)


def test_rows_that_can_not_be_scored_are_set_aside_with_the_reason_and_the_others_scored(scored):
    _, made = scored("binary", TABLE)
    assert made.outputs["scores"].collect()["id"].to_list() == ["a", "d"]  # a missing feature is the model's business
    aside = made.outputs["quarantine"].collect()
    assert dict(zip(aside["_reason"], aside["id"], strict=True)) == {
        "key is missing": None,
        "x: 'much' is not a float": "c",
    }
    assert (made.values["rows"], made.values["scored"], made.values["quarantined"]) == (4, 2, 2)


def test_a_shard_without_a_good_row_has_empty_scores_and_loads_no_model(scored):
    _, made = scored("binary", TABLE.slice(1, 2), model=pytest.fail)
    table = made.outputs["scores"].collect()
    assert (len(table), table.columns) == (0, ["id", "colour", "prediction", "probability"])
    assert table.schema["prediction"] == pl.String


def test_a_column_of_another_type_is_told(scored):
    with pytest.raises(DataError, match="column 'x' is of another type than in training"):
        scored("binary", TABLE.with_columns(x=pl.lit("text")))


def test_a_column_to_keep_may_not_be_called_as_one_of_the_scores(scored):
    parameters = ScoreShardParameters(key="id", keep=("probability_1",))
    with pytest.raises(DataError, match="a column to keep is called 'probability_1'"):
        scored("multiclass", TABLE.with_columns(probability_1=0), parameters)


def test_a_model_that_fails_is_told_as_such(scored):
    class Broken:
        def predict_proba(self, frame):
            raise IndexError("out of bounds")

    with pytest.raises(ModelError, match="the model fails to predict") as caught:
        scored("binary", TABLE, model=Broken)
    assert caught.value.got == "IndexError: out of bounds"


def test_shard_and_model_are_known_by_their_digests():
    services = FakeServices()
    refs = {name: services.put(name.encode(), kind="json") for name in ("shard", "model", "training")}
    found = resolve(PARAMETERS.model_copy(update={"index": 3, **refs}), {}, services, SOMEBODY)
    assert (found.inputs, found.values) == (refs, {"shard": 3})
    assert {"index", "shard", "model", "training"} == PARAMETERS.not_in_key
    with pytest.raises(RequestError, match="step score_shard is not told which model") as caught:
        resolve(PARAMETERS.model_copy(update={"shard": refs["shard"]}), {}, services, SOMEBODY)
    assert caught.value.got == "shard"
