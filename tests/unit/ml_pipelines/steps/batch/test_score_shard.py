from __future__ import annotations

import polars as pl
import pytest

from ml_pipelines.contracts import Identity
from ml_pipelines.errors import DataError, ModelError, RequestError
from ml_pipelines.modeling.features import feature_frame, predict
from ml_pipelines.pipeline.batch_parameters import ScoreShardParameters
from ml_pipelines.steps.batch.score_shard import resolve, score_shard
from ml_pipelines.testing import FakeServices

IDENTITY = Identity(pipeline="p", run_id="r", task_id="t")
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


def test_score_shard_predicts_the_label_and_the_probability_of_two_classes(scored):
    run, output = scored("binary")
    table = output.outputs["scores"].collect()
    assert table.columns == ["id", "colour", "prediction", "probability"]
    training = run.records[0]
    expected = predict(run.loader(run.models[0])(), feature_frame(run.test, training["features"]), training)
    assert table["probability"].to_list() == expected.tolist()
    assert table["prediction"].to_list() == ["bad" if item >= 0.5 else "good" for item in expected]
    assert set(table["prediction"]) == {"bad", "good"}
    assert table["id"].to_list() == list(range(150))
    assert output.values == {"rows": 150, "scored": 150, "quarantined": 0, "quarantined_by_reason": {}}


def test_score_shard_predicts_a_probability_for_each_of_three_classes(scored):
    _, output = scored("multiclass")
    table = output.outputs["scores"].collect()
    assert table.columns[2:] == ["prediction", "probability_0", "probability_1", "probability_2"]
    assert table["prediction"].dtype == pl.Int64
    sums = table.select(pl.sum_horizontal("^probability_.*$")).to_series()
    assert sums.is_between(1 - 1e-9, 1 + 1e-9).all()
    best = table.select(pl.concat_list("^probability_.*$").list.arg_max()).to_series()
    assert table["prediction"].to_list() == best.to_list()


def test_score_shard_predicts_a_number_in_a_regression(scored):
    run, output = scored("regression")
    table = output.outputs["scores"].collect()
    assert table.columns == ["id", "colour", "prediction"]
    training = run.records[0]
    expected = predict(run.loader(run.models[0])(), feature_frame(run.test, training["features"]), training)
    assert table["prediction"].to_list() == expected.tolist()


TABLE = pl.LazyFrame(
    {
        "id": ["a", None, "c", "d"],
        "x": [1.0, 2.0, None, None],
        "colour": ["red", "red", "red", "blue"],
        "_bad_cells": [None, None, [{"column": "x", "type": "float", "cell": "much"}], None],
    }
)


def test_score_shard_quarantines_invalid_rows_and_scores_the_others(scored):
    _, output = scored("binary", TABLE)
    assert output.outputs["scores"].collect()["id"].to_list() == ["a", "d"]  # a missing feature is the model's business
    quarantine = output.outputs["quarantine"].collect()
    assert dict(zip(quarantine["_reason"], quarantine["id"], strict=True)) == {
        "key is missing": None,
        "x is not a float": "c",
    }
    assert quarantine["_bad_cells"].explode().struct.field("cell").drop_nulls().to_list() == ["much"]
    assert (output.values["rows"], output.values["scored"], output.values["quarantined"]) == (4, 2, 2)


def test_score_shard_joins_the_reasons_of_a_row(scored):
    _, output = scored("binary", TABLE.with_columns(_reason=pl.lit("id occurred before")))
    assert set(output.outputs["quarantine"].collect()["_reason"]) == {
        "id occurred before",
        "id occurred before; key is missing",
        "x is not a float; id occurred before",
    }
    assert (output.values["scored"], sum(output.values["quarantined_by_reason"].values())) == (0, 4)


def test_score_shard_loads_no_model_without_a_valid_row(scored):
    _, output = scored("binary", TABLE.slice(1, 2), model=pytest.fail)
    table = output.outputs["scores"].collect()
    assert (len(table), table.columns) == (0, ["id", "colour", "prediction", "probability"])
    assert table.schema["prediction"] == pl.String


def test_score_shard_refuses_a_column_of_another_type(scored):
    with pytest.raises(DataError, match="column 'x' is of another type than in training"):
        scored("binary", TABLE.with_columns(x=pl.lit("text")))


def test_score_shard_refuses_a_column_to_keep_with_the_name_of_a_score(scored):
    parameters = ScoreShardParameters(key="id", keep=("probability_1",))
    with pytest.raises(DataError, match="'probability_1'"):
        scored("multiclass", TABLE.with_columns(probability_1=0), parameters)


def test_score_shard_reports_a_model_that_fails(scored):
    class Broken:
        def predict_proba(self, frame):
            raise IndexError("out of bounds")

    with pytest.raises(ModelError, match="the model fails to predict") as caught:
        scored("binary", TABLE, model=Broken)
    assert caught.value.got == "IndexError: out of bounds"


def test_resolve_returns_the_references_of_shard_and_model():
    services = FakeServices()
    refs = {name: services.put(name.encode(), kind="json") for name in ("shard", "model", "training")}
    resolution = resolve(PARAMETERS.model_copy(update={"index": 3, **refs}), {}, services, IDENTITY)
    assert (resolution.inputs, resolution.values) == (refs, {"shard": 3})
    assert {"index", "shard", "model", "training"} == PARAMETERS.not_in_key
    with pytest.raises(RequestError, match="no model") as caught:
        resolve(PARAMETERS.model_copy(update={"shard": refs["shard"]}), {}, services, IDENTITY)
    assert caught.value.got == "shard"


def test_score_shard_quarantines_a_float_key_that_has_lost_digits(scored, make_run):
    ids = [float(row) for row in range(149)] + [2.0**60]
    rows = make_run("binary").test.drop("label")
    _, output = scored("binary", table=rows.with_columns(id=pl.Series(ids)))
    assert output.values["quarantined_by_reason"] == {"key is a float that has lost digits": 1}
