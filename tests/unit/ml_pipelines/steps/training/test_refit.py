"""The refit of a candidate on the training and validation rows."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.ml_pipelines.steps.conftest import MODEL, table

from ml_pipelines._utils.canonical_json import dump_json
from ml_pipelines.evaluation.dummy import fit_dummy
from ml_pipelines.evaluation.evaluation_rows import read_rows
from ml_pipelines.evaluation.target_schema import encode_labels
from ml_pipelines.modeling.features import predict
from ml_pipelines.modeling.serialization import dump_model
from ml_pipelines.modeling.threshold import threshold_of
from ml_pipelines.modeling.user_transform import model_frame
from ml_pipelines.pipeline.step_parameters import CompareWithChampionParameters, SplitParameters, TrainParameters
from ml_pipelines.spec.gate import Slices
from ml_pipelines.spec.metric_table import get_metric
from ml_pipelines.spec.threshold import Threshold
from ml_pipelines.spec.training import DEFAULT_CANDIDATES, Candidate, Features, PipelineSpec, Split
from ml_pipelines.steps.training.split import split
from ml_pipelines.steps.training.train import train

LINEAR = Candidate(name="linear", estimator="sklearn.linear_model.LogisticRegression")
SEARCH = Candidate(
    name="search",
    estimator="sklearn.model_selection.GridSearchCV",
    params={"estimator": {"estimator": "sklearn.linear_model.LogisticRegression"}, "param_grid": {"C": [0.1, 1.0]}},
)
CALIBRATED = Candidate(
    name="calibrated", estimator="sklearn.tree.DecisionTreeClassifier", params={"max_depth": 3}, calibration="sigmoid"
)
EARLY_STOPPING = DEFAULT_CANDIDATES["classification"][1]
CANDIDATES = [LINEAR, SEARCH, CALIBRATED, EARLY_STOPPING]


def parts_of(rows: pl.LazyFrame) -> dict[str, Any]:
    parameters = SplitParameters(task="classification", key="id", target="label", split=Split())
    return split(table=rows, parameters=parameters, seed=1).outputs


def trained(parts: dict[str, Any], candidate: Candidate = LINEAR, **changes: Any) -> dict[str, Any]:
    parameters = TrainParameters(
        task="classification",
        key="id",
        target="label",
        positive="bad",
        features=Features(),
        candidate=candidate,
        model=MODEL,
        **changes,
    )
    inputs = {"table": parts["train"], "validation": parts["validation"], "split": parts["rule"]}
    return train(parameters=parameters, seed=1, **inputs).outputs


def count(rows: pl.LazyFrame) -> int:
    return rows.collect().height


@pytest.mark.parametrize("candidate", CANDIDATES, ids=lambda candidate: candidate.name)
def test_the_model_is_the_same_procedure_on_the_rows_of_both_parts(candidate: Candidate) -> None:
    parts = parts_of(table("binary", 400, seed=0))
    refit = trained(parts, candidate)
    both = {**parts, "train": pl.concat([parts["train"], parts["validation"]])}
    direct = trained(both, candidate, refit=False)
    assert dump_model(refit["model"]) == dump_model(direct["model"])
    assert refit["training"] == {**direct["training"], "split": {**parts["rule"], "refit": True}}
    assert refit["training"]["rows"] == count(parts["train"]) + count(parts["validation"])


@pytest.mark.parametrize("candidate", CANDIDATES, ids=lambda candidate: candidate.name)
def test_the_predictions_for_the_selection_are_those_of_the_training_rows(candidate: Candidate) -> None:
    parts = parts_of(table("binary", 400, seed=0))
    refit, first = trained(parts, candidate), trained(parts, candidate, refit=False)
    frame = model_frame(parts["validation"], first["training"])
    expected = predict(first["model"], frame, first["training"])
    for output in (refit, first):
        assert output["predictions"].collect()["prediction_0"].to_list() == expected.tolist()
    assert first["training"]["rows"] == count(parts["train"])
    assert first["training"]["split"]["refit"] is False


def test_the_threshold_of_the_first_fit_is_kept() -> None:
    parts = parts_of(table("binary", 400, seed=0))
    declared = Threshold.model_validate({"minimise_cost": {"false_positive": 1, "false_negative": 5}})
    refit, first = (trained(parts, threshold=declared, refit=choice) for choice in (True, False))
    assert refit["training"]["threshold"] == first["training"]["threshold"]
    assert threshold_of(refit["model"]) == threshold_of(first["model"]) == refit["training"]["threshold"]["value"]
    assert dump_model(refit["model"]) != dump_model(first["model"])


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(CANDIDATES), st.integers(0, 2**16), st.sampled_from([0.0, -1e9, 1e300]))
def test_no_test_row_has_an_effect_on_the_model(candidate: Candidate, seed: int, value: float) -> None:
    rows = table("binary", 300, seed=seed).collect()
    before = parts_of(rows.lazy())
    tested = pl.col("id").is_in(before["test"].collect()["id"].implode())
    changed = rows.with_columns(
        pl.when(tested).then(pl.lit(value)).otherwise("x").alias("x"),
        pl.when(tested).then(pl.lit("green")).otherwise("colour").alias("colour"),
    )
    after = parts_of(changed.lazy())
    assert after["test"].collect()["colour"].unique().to_list() == ["green"]
    one, other = (trained(parts, candidate) for parts in (before, after))
    assert dump_model(one["model"]) == dump_model(other["model"])
    assert dump_json(one["training"]) == dump_json(other["training"])


@pytest.mark.parametrize("refit", [True, False])
def test_the_dummy_baseline_learns_from_the_rows_of_the_models(refit: bool) -> None:
    parts = parts_of(table("binary", 400, seed=0))
    training, metric = trained(parts, refit=refit)["training"], get_metric("log_loss")
    tables = {name: parts[name] for name in ("train", "validation", "test")}
    rows = read_rows(tables, training, label="label", metrics=[metric], slices=Slices())
    learned = pl.concat([parts["train"], parts["validation"]]) if refit else parts["train"]
    labels = encode_labels(rows.target, learned.collect()["label"].to_list())
    assert rows.dummy_predictions(metric)[0] == pytest.approx(fit_dummy(rows.target, labels, metric))


def test_the_switch_is_part_of_the_key_of_a_training_and_of_the_fingerprint() -> None:
    document = {"name": "n", "model": {"name": "m", "task": "classification"}}
    document |= {"data": {"file": {"path": "a.csv"}, "target": "label"}}
    for kind in (TrainParameters, CompareWithChampionParameters):
        keys = [
            kind.of(PipelineSpec.model_validate(document | change)).model_dump(exclude=set(kind.not_in_key))
            for change in ({}, {"refit": True}, {"refit": False})
        ]
        assert keys[0] == keys[1] != keys[2]
