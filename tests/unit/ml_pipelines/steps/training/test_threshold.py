"""A tuned threshold through training, evaluation, decision, registration and scoring."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from tests.step_values import split_record
from tests.unit.ml_pipelines.steps.conftest import MODEL, table

from ml_pipelines._utils.canonical_json import dump_json
from ml_pipelines.adapters.smoke_test.worker import respond
from ml_pipelines.contracts import Decision
from ml_pipelines.errors import DataError
from ml_pipelines.evaluation.records import Evaluation
from ml_pipelines.evaluation.target_schema import TargetSchema
from ml_pipelines.modeling.serialization import dump_model
from ml_pipelines.modeling.threshold import with_threshold
from ml_pipelines.pipeline.batch_parameters import ScoreShardParameters
from ml_pipelines.pipeline.step_parameters import TrainParameters
from ml_pipelines.spec.threshold import Threshold
from ml_pipelines.spec.training import Candidate, Features
from ml_pipelines.steps.batch.score_shard import score_shard
from ml_pipelines.steps.training.train import train

F1: dict[str, Any] = {"maximise": "f1"}
COST = {"minimise_cost": {"false_positive": 1, "false_negative": 5}}


def trained(declared: dict[str, Any] | None, kind: str = "binary", *, refit: bool = True, **changes: Any) -> Any:
    parameters = TrainParameters(
        task="classification",
        key="id",
        target="label",
        positive="bad" if kind == "binary" else None,
        features=Features(),
        candidate=Candidate(name="linear", estimator="sklearn.linear_model.LogisticRegression"),
        model=MODEL,
        threshold=Threshold.model_validate(declared) if declared else None,
        refit=refit,
    )
    rows = {"table": table(kind, 300, seed=0), "validation": table(kind, 120, seed=1), **changes}
    return train(split=split_record(), parameters=parameters, seed=1, **rows)


def with_models(run: Any, *outputs: Any) -> Any:
    run.models = tuple(run.services.put(dump_model(output.outputs["model"]), kind="model") for output in outputs)
    run.trainings = tuple(run.json(output.outputs["training"]) for output in outputs)
    return run


def test_without_a_threshold_the_outputs_are_the_same_bytes() -> None:
    plain, validated = trained(None, validation=None), trained(None, refit=False)
    assert dump_json(plain.outputs["training"]) == dump_json(validated.outputs["training"])
    assert dump_model(plain.outputs["model"]) == dump_model(validated.outputs["model"])
    assert "threshold" not in plain.outputs["training"]


def test_the_threshold_is_part_of_model_and_record() -> None:
    output = trained(COST)
    tuned, model = output.outputs["training"]["threshold"], output.outputs["model"]
    assert tuned["value"] < 0.5
    assert tuned["rows"] == 120
    assert tuned["score"] < tuned["default_score"]
    assert model.steps[-1][1].threshold == tuned["value"]
    smoke, plain = (document.outputs["training"]["smoke"] for document in (output, trained(None)))
    assert smoke["predictions"] == plain["predictions"]


def test_the_test_rows_and_the_order_of_rows_have_no_effect() -> None:
    rows = table("binary", 120, seed=1)
    backwards = trained(COST, validation=rows.reverse())
    assert backwards.outputs["training"]["threshold"] == trained(COST).outputs["training"]["threshold"]


def test_three_labels_have_no_threshold() -> None:
    with pytest.raises(DataError, match="two labels"):
        trained(F1, kind="multiclass")


def test_each_candidate_is_evaluated_at_its_threshold(run: Any) -> None:
    plain, tuned = trained(None), trained(COST)
    with_models(run, plain, tuned)
    evaluation = Evaluation.model_validate(run.evaluate(run.parameters(metric="f1")).outputs["evaluation"])
    first, second = evaluation.candidates
    assert first.threshold is None
    assert second.threshold == tuned.outputs["training"]["threshold"]["value"]
    assert first.test["roc_auc"] == second.test["roc_auc"]
    assert (first.test["recall"] or 0) < (second.test["recall"] or 0)
    assert first.confusion != second.confusion
    document = evaluation.document()
    assert "threshold" not in document["candidates"][0]
    # The intervals belong to the labels of each threshold.
    scores = {score.candidate: score.score for score in evaluation.selection.scores}
    assert scores["linear"] in (first.validation["f1"], second.validation["f1"])
    for name, interval in evaluation.intervals.items():
        assert interval.low <= (evaluation.candidates[evaluation.winner_index].test[name] or 0) <= interval.high


@pytest.mark.parametrize("metric", ["f1", "recall"])
def test_the_champion_keeps_its_own_threshold(run: Any, metric: str) -> None:
    tuned, plain = trained(COST), trained(None)
    with_models(run, tuned)
    run.champion()
    value = tuned.outputs["training"]["threshold"]["value"]
    expected = Evaluation.model_validate(run.evaluate(run.parameters(metric=metric)).outputs["evaluation"])
    with_models(run, plain)
    evaluation = Evaluation.model_validate(run.evaluate(run.parameters(metric=metric)).outputs["evaluation"])
    champion = evaluation.champion
    assert champion is not None
    assert champion.threshold == value
    assert champion.test == expected.candidates[0].test
    comparison = evaluation.comparison
    assert comparison is not None
    difference = (evaluation.candidates[0].test[metric] or 0) - (champion.test[metric] or 0)
    assert comparison.difference == pytest.approx(difference)
    assert comparison.interval is not None
    assert comparison.interval.low <= difference <= comparison.interval.high
    interval = evaluation.champion_intervals[metric]
    assert interval.low <= (champion.test[metric] or 0) <= interval.high


def test_a_batch_has_the_labels_of_the_threshold(run: Any) -> None:
    output = trained(COST)
    value = output.outputs["training"]["threshold"]["value"]
    scored = score_shard(
        shard=run.test.drop("label"),
        model=lambda: output.outputs["model"],
        training=output.outputs["training"],
        parameters=ScoreShardParameters(key="id", keep=()),
        seed=0,
    )
    rows = scored.outputs["scores"].collect()
    labels = np.where(rows["probability"].to_numpy() >= value, "bad", "good")
    assert rows["prediction"].to_list() == labels.tolist()
    assert (rows["probability"].is_between(value, 0.5, closed="left")).any()


def test_the_smoke_test_refuses_another_threshold() -> None:
    output = trained(COST)
    training = output.outputs["training"]
    plain = trained(None).outputs["model"]
    for model, works in (
        (output.outputs["model"], True),
        (plain, False),
        (with_threshold(plain, 0.4, "bad"), False),
        (with_threshold(plain, training["threshold"]["value"], "good"), False),
    ):
        data = dump_model(model)
        digest = hashlib.sha256(data).hexdigest()
        answer = respond({"where": "here", "sha256": digest, "training": training}, data)
        assert ("predictions" in answer) == works, answer


def test_usual_thresholds_add_nothing_to_a_decision() -> None:
    assert not {"threshold", "champion_threshold"} & {*Decision(outcome="held", model="m", reason="r").model_dump()}


def test_a_schema_has_the_thresholds_of_its_models() -> None:
    schema = TargetSchema("classification", (0, 1), 1).with_thresholds({"winner": 0.2, "champion": None})
    assert {field.name for field in fields(schema)} >= {"threshold", "thresholds"}
    assert [schema.of_model(name).threshold for name in ("winner", "champion", "dummy")] == [0.2, 0.5, 0.5]
