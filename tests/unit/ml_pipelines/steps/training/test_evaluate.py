from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn import metrics as sk
from sklearn.base import BaseEstimator
from tests.step_values import split_record

from ml_pipelines._utils.canonical_json import dump_json, json_digest
from ml_pipelines.contracts import ArtifactRef
from ml_pipelines.data.row_hash import row_hash
from ml_pipelines.errors import (
    DataError,
    ModelError,
    RequestError,
    ServiceUnavailable,
    StoreUnavailable,
    TransientError,
)
from ml_pipelines.modeling.features import feature_frame, predict
from ml_pipelines.modeling.serialization import dump_model
from ml_pipelines.pipeline.facts import FactsForEvaluation
from ml_pipelines.ports import TrackedModel
from ml_pipelines.promotion.deployment import TRAINING_TAG
from ml_pipelines.spec.gate import Slices
from ml_pipelines.steps.training.evaluate_io import publish, resolve
from ml_pipelines.testing import FakeServices


class Broken(BaseEstimator):
    """Answers what it is told, or raises it."""

    def __init__(self, answer: Any, classes: tuple[str, ...] = ("bad", "good")) -> None:
        self.answer, self.classes_ = answer, np.array(classes)

    def predict_proba(self, frame: Any) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return np.full((len(frame), 2), self.answer)


def own_scores(run: Any, index: int) -> tuple[Any, Any]:
    record = run.records[index]
    frame = feature_frame(run.test, record["features"])
    return run.test.collect()["label"].to_numpy(), predict(run.loader(run.models[index])(), frame, record)


def test_binary_metrics_are_those_of_scikit_learn(run: Any) -> None:
    evaluation = run.evaluate().outputs["evaluation"]
    for index, candidate in enumerate(evaluation["candidates"]):
        labels, p = own_scores(run, index)
        truth = labels == "bad"
        assert candidate["test"] == pytest.approx(
            {
                "roc_auc": sk.roc_auc_score(truth, p),
                "average_precision": sk.average_precision_score(truth, p),
                "accuracy": sk.accuracy_score(truth, p >= 0.5),
                "balanced_accuracy": sk.balanced_accuracy_score(truth, p >= 0.5),
                "f1": sk.f1_score(truth, p >= 0.5),
                "precision": sk.precision_score(truth, p >= 0.5),
                "recall": sk.recall_score(truth, p >= 0.5),
                "log_loss": sk.log_loss(truth, p),
                "brier": sk.brier_score_loss(truth, p),
            }
        )
    assert evaluation["rows"] == {"validation": 120, "test": 150}
    assert [candidate["sha256"] for candidate in evaluation["candidates"]] == [ref.sha256 for ref in run.models]


def test_multiclass_metrics_are_macro_and_one_against_the_rest(make_run: Any) -> None:
    run = make_run("multiclass")
    candidate = run.evaluate().outputs["evaluation"]["candidates"][0]
    truth, p = own_scores(run, 0)
    predicted = p.argmax(axis=1)
    assert candidate["test"] == pytest.approx(
        {
            "roc_auc": sk.roc_auc_score(truth, p, multi_class="ovr", average="macro"),
            "average_precision": sk.average_precision_score(truth, p, average="macro"),
            "accuracy": sk.accuracy_score(truth, predicted),
            "balanced_accuracy": sk.balanced_accuracy_score(truth, predicted),
            "f1": sk.f1_score(truth, predicted, average="macro"),
            "precision": sk.precision_score(truth, predicted, average="macro"),
            "recall": sk.recall_score(truth, predicted, average="macro"),
            "log_loss": sk.log_loss(truth, p),
            "brier": None,
        }
    )
    assert candidate["confusion"]["labels"] == [0, 1, 2]
    assert np.sum(candidate["confusion"]["matrix"]) == 150
    assert candidate["curves"] == {}


def test_regression_metrics_and_residuals(make_run: Any) -> None:
    run = make_run("regression")
    evaluation = run.evaluate().outputs["evaluation"]
    candidate = evaluation["candidates"][0]
    truth, predicted = own_scores(run, 0)
    assert candidate["test"] == pytest.approx(
        {
            "r2": sk.r2_score(truth, predicted),
            "rmse": sk.root_mean_squared_error(truth, predicted),
            "mae": sk.mean_absolute_error(truth, predicted),
            "median_ae": sk.median_absolute_error(truth, predicted),
        }
    )
    residuals = candidate["curves"]["residuals"]
    assert residuals["mean"] == pytest.approx((truth - predicted).mean())
    assert residuals["quantiles"]["0.5"] == pytest.approx(np.median(truth - predicted))
    assert residuals["y"] == pytest.approx(truth - predicted)
    assert candidate["confusion"] is None
    assert evaluation["dummy"]["test"]["r2"] <= 0


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_the_evaluation_is_plain_json_and_the_same_every_time(make_run: Any, kind: Any) -> None:
    run = make_run(kind)
    assert dump_json(run.evaluate().outputs["evaluation"]) == dump_json(run.evaluate().outputs["evaluation"])


def test_evaluate_measures_the_dummy_baseline(run: Any) -> None:
    dummy = run.evaluate().outputs["evaluation"]["dummy"]["test"]
    assert dummy["roc_auc"] == 0.5
    assert dummy["recall"] == 1.0
    assert dummy["precision"] == pytest.approx((run.test.collect()["label"] == "bad").mean())
    assert dummy["accuracy"] == pytest.approx((run.test.collect()["label"] == "good").mean())


@pytest.mark.parametrize(("metric", "best"), [("roc_auc", max), ("log_loss", min)])
def test_the_winner_is_selected_on_the_validation_rows(run: Any, metric: Any, best: Any) -> None:
    output = run.evaluate(run.parameters(metric=metric))
    evaluation = output.outputs["evaluation"]
    values = {c["candidate"]: c["validation"][metric] for c in evaluation["candidates"]}
    assert evaluation["selection"]["best"] == best(values, key=values.get)
    assert {score["candidate"]: score["score"] for score in evaluation["selection"]["scores"]} == values
    assert output.values["winner"] == evaluation["winner"] == evaluation["selection"]["winner"]
    assert output.values["value"] == values[output.values["winner"]]
    assert output.values["metric"] == metric


def test_the_test_set_takes_no_part_in_the_selection(run: Any) -> None:
    selection = run.evaluate().outputs["evaluation"]["selection"]
    swapped = pl.col("label").replace_strict({"bad": "good", "good": "bad"})
    other = run.evaluate(test=run.test.with_columns(label=swapped)).outputs["evaluation"]
    assert other["selection"] == selection
    assert other["candidates"][0]["test"] != run.evaluate().outputs["evaluation"]["candidates"][0]["test"]


def test_evaluate_prefers_the_first_of_equal_candidates(run: Any) -> None:
    run.models, run.trainings = (run.models[1],) * 2, (run.trainings[1],) * 2
    named = [{**record, "candidate": name} for record, name in zip(run.records, ("first", "second"), strict=True)]
    assert run.evaluate(trainings=named).values["winner"] == "first"


def test_evaluate_omits_metrics_that_a_single_class_does_not_define(run: Any) -> None:
    candidate = run.evaluate(test=run.test.filter(pl.col("label") == "good")).outputs["evaluation"]["candidates"][0]
    unknown = {name for name, value in candidate["test"].items() if value is None}
    assert unknown == {"roc_auc", "average_precision", "balanced_accuracy", "f1", "recall"}
    assert candidate["curves"] == {}


def test_curves_are_thinned_and_keep_their_ends(make_run: Any) -> None:
    run = make_run()
    big = pl.concat([run.test.with_columns(x=pl.col("x") + shift) for shift in np.linspace(0, 1, 20)])
    curves = run.evaluate(test=big).outputs["evaluation"]["candidates"][0]["curves"]
    assert len(curves["roc"]["x"]) == len(curves["pr"]["y"]) == 200
    assert (curves["roc"]["x"][0], curves["roc"]["x"][-1]) == (0.0, 1.0)
    assert (curves["pr"]["x"][0], curves["pr"]["x"][-1]) == (0.0, 1.0)
    assert len(curves["calibration"]["x"]) <= 10


def test_slices_are_measured_where_they_are_large_enough(run: Any) -> None:
    test = run.test.with_columns(region=pl.Series(["n"] * 100 + [None] * 40 + ["s"] * 10))
    parameters = run.parameters(slices=Slices(columns=("region",), min_rows=40))
    slices = run.evaluate(parameters, test=test).outputs["evaluation"]["candidates"][0]["slices"]
    assert [(s["column"], s["level"], s["rows"]) for s in slices] == [("region", None, 40), ("region", "n", 100)]
    labels, p = own_scores(run, 0)
    assert slices[1]["metrics"]["roc_auc"] == pytest.approx(sk.roc_auc_score(labels[:100] == "bad", p[:100]))


def test_a_slice_column_must_exist(run: Any) -> None:
    with pytest.raises(DataError) as caught:
        run.evaluate(run.parameters(slices=Slices(columns=("region",))))
    assert caught.value.what == "the column 'region' is not in the data"
    assert caught.value.fix


def test_unseen_categories_and_missing_columns_of_cells_are_scored(run: Any) -> None:
    test = run.test.with_columns(colour=pl.lit("mauve"), x=pl.lit(None, dtype=pl.Float64))
    candidate = run.evaluate(test=test).outputs["evaluation"]["candidates"][0]
    assert candidate["test"]["log_loss"] is not None


def test_a_missing_feature_is_named(run: Any) -> None:
    with pytest.raises(DataError, match="columns that the model was trained on are missing: colour"):
        run.evaluate(test=run.test.drop("colour"))


def test_a_part_without_rows_is_an_error(run: Any) -> None:
    with pytest.raises(DataError) as caught:
        run.evaluate(validation=run.validation.limit(0))
    assert caught.value.what == "there are no validation rows"
    assert caught.value.fix == "raise split.validation, or add rows"


def test_a_third_label_among_two_is_an_error(run: Any) -> None:
    with pytest.raises(DataError) as caught:
        run.evaluate(test=run.test.with_columns(label=pl.lit("ugly")))
    assert caught.value.what == "label 'ugly' occurs in the test set but not among the training rows"
    assert caught.value.expected == "one of 'bad', 'good'"


def test_a_further_class_counts_as_given_no_probability(make_run: Any) -> None:
    run = make_run("multiclass")
    labels = run.test.collect()["label"].to_list()
    test = run.test.with_columns(label=pl.Series([7, *labels[1:]]))
    before, after = (run.evaluate(test=entry).outputs["evaluation"]["candidates"][0] for entry in (run.test, test))
    assert after["confusion"]["labels"] == [0, 1, 2, 7]
    assert after["confusion"]["matrix"][3][3] == 0
    assert after["test"]["log_loss"] > before["test"]["log_loss"]


def test_a_regression_target_must_be_finite(make_run: Any) -> None:
    run = make_run("regression")
    with pytest.raises(DataError, match="the target of the test set has cells that are not finite numbers") as caught:
        run.evaluate(test=run.test.with_columns(label=pl.lit(float("nan"))))
    assert caught.value.got == "150 of 150 rows"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (float("nan"), "the model's predictions are not finite numbers (got 150 of 150 numbers are not finite)"),
        (ZeroDivisionError("oh"), "the model fails to predict (got ZeroDivisionError: oh)"),
        (
            ZeroDivisionError("a\n<b>\x1b[0m" + "x" * 900),
            "the model fails to predict (got ZeroDivisionError: a <b>\\x1b[0mx",
        ),
    ],
)
def test_a_candidate_that_fails_to_predict_does_not_stop_the_others(run: Any, answer: Any, error: str) -> None:
    works = run.loader(run.models[1])
    output = run.evaluate(models=[lambda: Broken(answer), works])
    assert output.partial
    evaluation = output.outputs["evaluation"]
    assert (evaluation["winner"], [row["candidate"] for row in evaluation["candidates"]]) == ("tree", ["tree"])
    (failure,) = evaluation["failures"]
    assert (failure["candidate"], failure["task"]) == ("linear", "evaluate_model")
    assert failure["error"].startswith(error)
    assert len(failure["error"]) <= 400
    assert evaluation["selection"]["reason"] == "tree is the only candidate that did not fail"
    all_work = run.evaluate()
    assert not all_work.partial
    assert evaluation["candidates"] == all_work.outputs["evaluation"]["candidates"][1:]


def test_the_errors_of_all_candidates_stop_the_run(run: Any) -> None:
    earlier = {"candidate": "forest", "task": "train_model", "error": "no trees"}
    with pytest.raises(ModelError) as caught:
        run.evaluate(models=[lambda: Broken(ZeroDivisionError("oh"))] * 2, failures=[earlier])
    assert caught.value.what.splitlines() == [
        "all candidates failed",
        "forest, training: no trees",
        "linear, evaluation: the model fails to predict (got ZeroDivisionError: oh)",
        "tree, evaluation: the model fails to predict (got ZeroDivisionError: oh)",
    ]


@pytest.mark.parametrize("error", [MemoryError(), ConnectionResetError("gone")])
def test_an_error_that_is_not_that_of_the_candidate_fails_the_task(run: Any, error: Exception) -> None:
    with pytest.raises((MemoryError, TransientError)):
        run.evaluate(models=[lambda: Broken(error), run.loader(run.models[1])])


def test_a_champion_that_is_a_candidate_that_failed_is_not_compared(run: Any) -> None:
    status = {"identity": run.models[0].sha256, "error": None}
    digests = [ref.sha256 for ref in run.models]
    models = [lambda: Broken(ZeroDivisionError("oh")), run.loader(run.models[1])]
    evaluation = run.evaluate(models=models, digests=digests, champion_status=status).outputs["evaluation"]
    assert evaluation["champion"]["error"] == "it is a candidate of this run that failed"
    assert (evaluation["champion"]["test"], evaluation["comparison"]) == ({}, None)


# --- the champion


def retrained(run: Any, model: Any, training: ArtifactRef | None = None) -> ArtifactRef:
    """Register another model as champion."""
    data = model if isinstance(model, bytes) else dump_model(model)
    ref = run.services.put(data, kind="model")
    run.services.tracking.files["models:/m-old"] = data
    earlier = run.identity.model_copy(update={"run_id": "an earlier run"})
    tags = {TRAINING_TAG: (training or run.trainings[0]).model_dump_json()}
    version = run.services.registry.register("churn", TrackedModel("r", "models:/m-old"), ref, earlier, tags)
    run.services.registry.set_alias("churn", version.version, "champion")
    return ref


def evaluated(identity: str, **changes: Any) -> dict[str, Any]:
    """The champion of an evaluation."""
    unevaluated = {"test": {}, "slices": [], "error": None, "rows": None, "unknown_rows": None}
    return {"identity": identity, **unevaluated, **changes}


def test_without_champion_there_is_nothing_to_compare(run: Any) -> None:
    output = run.evaluate()
    assert output.values["champion"] is None
    assert output.outputs["evaluation"]["champion"] is None


def test_a_champion_among_the_candidates_needs_no_input(run: Any) -> None:
    before = run.evaluate().outputs["evaluation"]
    run.champion(1)
    resolution = resolve(run.parameters(), {"models": run.models}, run.services, run.identity)
    baseline = {"identity": run.models[1].sha256, "error": None}
    assert resolution.inputs == {}
    assert resolution.key_facts == {"champion": baseline}
    assert resolution.values["champion"] == {
        "version": "1",
        "sha256": run.models[1].sha256,
        "candidate_index": 1,
        "error": None,
    }
    after = run.evaluate().outputs["evaluation"]
    tree = after["candidates"][1]
    assert after["champion"] == evaluated(run.models[1].sha256, test=tree["test"], slices=tree["slices"])
    assert after["champion_intervals"]["roc_auc"]["low"] < tree["test"]["roc_auc"]
    assert after["comparison"] is not None
    changed = ("champion", "intervals", "champion_intervals", "comparison")
    assert after | {name: before[name] for name in changed} == before


def test_evaluate_draws_intervals_from_the_seed(run: Any) -> None:
    retrained(run, run.loader(run.models[1])().set_params(model__max_features=1))
    evaluation = run.evaluate(run.parameters(metric="log_loss", draws=300, confidence=0.9)).outputs["evaluation"]
    (winner,) = [entry for entry in evaluation["candidates"] if entry["candidate"] == evaluation["winner"]]
    assert set(evaluation["intervals"]) == set(winner["test"]) == set(evaluation["champion_intervals"])
    for name, result in evaluation["intervals"].items():
        assert result["low"] <= winner["test"][name] <= result["high"]
    compared = evaluation["comparison"]
    # Less is better: the champion's loss above ours is a gain.
    gain = evaluation["champion"]["test"]["log_loss"] - winner["test"]["log_loss"]
    assert compared["difference"] == pytest.approx(gain)
    assert compared["interval"]["low"] < compared["difference"] < compared["interval"]["high"]
    assert (compared["metric"], compared["draws"], compared["rows"]) == ("log_loss", 300, 150)
    assert compared["interval"]["confidence"] == 0.9


def test_evaluate_does_not_compare_an_undefined_metric(run: Any) -> None:
    retrained(run, run.loader(run.models[1])().set_params(model__max_features=1))
    evaluation = run.evaluate(test=run.test.filter(pl.col("label") == "good")).outputs["evaluation"]
    assert evaluation["comparison"] is None
    assert "accuracy" in evaluation["intervals"]


def test_an_older_champion_is_scored_on_the_same_rows(run: Any) -> None:
    ref = retrained(run, run.loader(run.models[1])().set_params(model__max_features=1))
    output = run.evaluate()
    champion, tree = output.outputs["evaluation"]["champion"], output.outputs["evaluation"]["candidates"][1]
    assert output.values["champion"]["candidate_index"] is None
    assert champion == evaluated(ref.sha256, test=tree["test"], rows=150)


def test_a_champion_that_the_store_lost_comes_from_the_registry(run: Any) -> None:
    ref = retrained(run, run.loader(run.models[1])().set_params(model__max_features=1))
    del run.services.blobs[ref.uri]
    resolution = resolve(run.parameters(), {"models": run.models}, run.services, run.identity)
    assert resolution.inputs["champion"] == ref
    assert ref.uri in run.services.blobs


def test_resolve_records_a_missing_champion_in_the_key(run: Any) -> None:
    ref = retrained(run, b"gone")
    del run.services.blobs[ref.uri], run.services.tracking.files["models:/m-old"]
    resolution = resolve(run.parameters(), {"models": run.models}, run.services, run.identity)
    assert resolution.inputs == {}
    assert resolution.key_facts == {
        "champion": {"identity": ref.sha256, "error": "the file of version 1 does not exist"}
    }
    evaluation = run.evaluate().outputs["evaluation"]
    assert evaluation["champion"] == evaluated(ref.sha256, error="the file of version 1 does not exist")


def test_a_champion_of_other_bytes_is_not_loaded(run: Any) -> None:
    ref = retrained(run, b"true")
    del run.services.blobs[ref.uri]
    run.services.tracking.files["models:/m-old"] = b"forged"
    error = run.evaluate().outputs["evaluation"]["champion"]["error"]
    assert error.startswith("the bytes do not have the digest of the reference (got sha256 ")


def test_resolve_records_a_champion_without_a_model_file(run: Any) -> None:
    run.champion(0)
    version = run.services.registry.versions["churn"][0]
    run.services.registry.versions["churn"][0] = type(version)("churn", "1", None)
    champion = run.evaluate().outputs["evaluation"]["champion"]
    assert champion["identity"] == "version 1"
    assert champion["error"] == "version 1 was not registered by a pipeline, so its model file is not known"


@pytest.mark.parametrize(
    ("champion", "error"),
    [
        (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda: Broken(ValueError("old")), "the model fails to predict (got ValueError: old)"),
        (
            lambda: Broken(float("inf")),
            "the model's predictions are not finite numbers (got 150 of 150 numbers are not finite)",
        ),
        (lambda: Broken(0.5, ("no", "yes")), "the champion has other classes than this run (got ['no', 'yes'])"),
    ],
)
def test_evaluate_records_the_error_of_the_champion(run: Any, champion: Any, error: Any) -> None:
    baseline = {"identity": "a", "error": None}
    evaluation = run.evaluate(champion=champion, champion_status=baseline).outputs["evaluation"]
    assert evaluation["champion"] == evaluated("a", error=error)


def test_evaluate_records_a_column_that_the_champion_lacks(run: Any) -> None:
    champion = Broken(0.5)
    champion.feature_names_in_ = np.array(["x", "height"])
    baseline = {"identity": "a", "error": None}
    evaluation = run.evaluate(champion=lambda: champion, champion_status=baseline).outputs["evaluation"]
    assert evaluation["champion"]["error"] == (
        "the champion needs column 'height', which is no longer among the features"
    )


def test_evaluate_raises_an_unavailable_store(run: Any) -> None:
    def unreachable() -> Any:
        raise StoreUnavailable("the store can't be read")

    with pytest.raises(StoreUnavailable):
        run.evaluate(champion=unreachable, champion_status={"identity": "a", "error": None})


def test_resolve_raises_an_unavailable_registry(run: Any) -> None:
    run.services.registry.down = True
    with pytest.raises(ServiceUnavailable, match="the model registry does not answer"):
        resolve(run.parameters(), {"models": run.models}, run.services, run.identity)


# --- publishing


def published(run: Any, **facts: Any) -> dict[str, Any]:
    output = run.evaluate()
    ref = run.json(output.outputs["evaluation"])
    work = run.work(run.parameters(), {"evaluation": ref}, facts, output.values, reads=FactsForEvaluation)
    return publish(work, run.services)


def test_publishing_adds_to_each_candidates_run(run: Any) -> None:
    assert published(run) == {}
    assert published(run) == {}
    evaluation = run.evaluate().outputs["evaluation"]
    assert len(run.services.tracking.runs) == 2
    for facts, candidate in zip(run.facts, evaluation["candidates"], strict=True):
        tracked = run.services.tracking.runs[facts.tracking_run_id]
        assert tracked.metrics["validation_roc_auc"] == candidate["validation"]["roc_auc"]
        assert tracked.metrics["test_brier"] == candidate["test"]["brier"]
        assert set(tracked.figures) == {"roc.svg", "precision_recall.svg", "calibration.svg", "confusion.svg"}
        assert json.loads(tracked.documents["evaluation.json"]) == evaluation


def test_publish_omits_undefined_metrics(make_run: Any) -> None:
    run = make_run("multiclass")
    published(run)
    assert "test_brier" not in next(iter(run.services.tracking.runs.values())).metrics


def test_publishing_needs_the_trainings(run: Any) -> None:
    with pytest.raises(RequestError) as caught:
        published(run, train=[])
    assert caught.value.what == "the candidates' trainings are not the evaluated ones"
    assert (caught.value.expected, caught.value.got) == ("facts of the training of linear", "none")


def test_publish_raises_an_unavailable_tracking_server(run: Any) -> None:
    assert isinstance(run.services, FakeServices)
    run.services.tracking.down = True
    with pytest.raises(ServiceUnavailable, match="the tracking server does not answer"):
        published(run)


def learned(run: Any, limit: int) -> ArtifactRef:
    """The record of a champion that has learned from the rows whose hash reaches a limit."""
    return run.json({**run.records[0], "split": split_record(limits={"": [limit, limit]}, seed=7)})


def test_a_champion_is_evaluated_on_the_rows_that_it_has_not_learned_from(run: Any) -> None:
    model = run.loader(run.models[1])().set_params(model__max_features=1)
    ref = retrained(run, model, learned(run, 2**63))
    evaluation = run.evaluate(run.parameters(slices=Slices(columns=("colour",), min_rows=30))).outputs["evaluation"]
    new = run.test.filter(row_hash(run.test, "id", 7) < 2**63)
    rows = new.select(pl.len()).collect().item()
    assert 0 < rows < 150
    alone = run.evaluate(test=new, champion=lambda: model).outputs["evaluation"]
    assert evaluation["champion"]["rows"] == evaluation["comparison"]["rows"] == rows
    assert evaluation["champion"]["test"] == alone["champion"]["test"]
    assert evaluation["champion"]["identity"] == ref.sha256
    for key in ("comparison", "champion_intervals"):
        assert evaluation[key] == alone[key]
    without = run.evaluate(run.parameters(), champion_status=None, champion=None).outputs["evaluation"]
    assert evaluation["intervals"] == without["intervals"]
    assert evaluation["candidates"][0]["test"] == without["candidates"][0]["test"]
    groups = {group["level"]: group["rows"] for group in evaluation["champion"]["slices"]}
    counts = dict(new.group_by("colour").len().collect().rows())
    assert groups == {level: count for level, count in counts.items() if count >= 30}


def test_a_champion_is_not_evaluated_on_groups_that_it_has_learned_from(run: Any) -> None:
    """It was trained without groups, so it has learned from some rows of a group and not from others."""
    model = run.loader(run.models[1])().set_params(model__max_features=1)
    retrained(run, model, learned(run, int(2**64 * 0.8)))
    run.test, run.validation = (part.with_columns(team=pl.col("id") // 4) for part in (run.test, run.validation))
    evaluation = run.evaluate(run.parameters(group="team")).outputs["evaluation"]
    rows = run.test.with_columns(learned=row_hash(run.test, "id", 7) >= int(2**64 * 0.8))
    new = rows.filter(~pl.col("learned").any().over("team")).collect().height
    assert 0 < new < rows.filter(~pl.col("learned")).collect().height
    assert evaluation["champion"]["rows"] == evaluation["comparison"]["rows"] == new


def test_the_intervals_of_an_evaluation_are_those_of_groups(run: Any) -> None:
    rows = run.evaluate().outputs["evaluation"]
    run.test, run.validation = (part.with_columns(team=pl.col("id")) for part in (run.test, run.validation))
    groups = run.evaluate(run.parameters(group="team")).outputs["evaluation"]
    assert groups["candidates"] == rows["candidates"]
    assert groups["intervals"]["f1"] != rows["intervals"]["f1"]  # single rows, but the shares of the classes vary


@pytest.mark.parametrize("record", ["all rows", "other columns", "no record"])
def test_a_champion_whose_rows_are_unknown_is_not_evaluated(run: Any, record: str) -> None:
    training = learned(run, 0)
    if record == "other columns":
        split = split_record(key=None, columns={"height": "number"})
        training = run.json({**run.records[0], "split": split})
    retrained(run, run.loader(run.models[1])().set_params(model__max_features=1), training)
    if record == "no record":
        del run.services.blobs[training.uri]
    evaluation = run.evaluate().outputs["evaluation"]
    champion = evaluation["champion"]
    assert champion["error"] == champion["unknown_rows"] is not None
    assert (champion["test"], evaluation["comparison"]) == ({}, None)
    assert {"all rows": "150", "other columns": "height", "no record": "record"}[record] in champion["error"]


def test_the_split_of_the_champion_is_part_of_the_key(run: Any) -> None:
    training = learned(run, 5)
    retrained(run, run.loader(run.models[1])().set_params(model__max_features=1), training)
    resolution = resolve(run.parameters(), {"models": run.models}, run.services, run.identity)
    split = json.loads(run.services.read(training))["split"]
    assert resolution.key_facts == {"champion_split": json_digest(split)}


def test_the_winner_is_compared_with_the_dummy_of_the_primary_metric(make_run: Any) -> None:
    run = make_run("regression")
    for metric, change in (("rmse", {}), ("mae", {}), ("r2", {})):
        evaluation = run.evaluate(run.parameters(metric=metric, **change)).outputs["evaluation"]
        winner = next(row for row in evaluation["candidates"] if row["candidate"] == evaluation["winner"])
        compared, dummy = evaluation["dummy"]["comparison"], evaluation["dummy"]["test"][metric]
        assert (compared["metric"], compared["reference"]) == (metric, dummy)
        assert compared["difference"] == pytest.approx(abs(winner["test"][metric] - dummy))
        assert 0 < compared["interval"]["low"] < compared["difference"] < compared["interval"]["high"]
        if metric != "r2":
            assert 0 < compared["relative"]["low"] < compared["difference"] / dummy < compared["relative"]["high"]


def test_a_constant_model_is_recorded(run: Any) -> None:
    models = [lambda: Broken(0.5)] * 2
    candidates = run.evaluate(models=models).outputs["evaluation"]["candidates"]
    assert [candidate["constant"] for candidate in candidates] == ["predictions"] * 2
