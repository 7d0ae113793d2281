from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from ml_pipelines.contracts import ArtifactRef, Identity, StepResult
from ml_pipelines.errors import DataError, RegistryError
from ml_pipelines.pipeline.batch_parameters import MeasureDriftParameters
from ml_pipelines.ports import TaskRecord
from ml_pipelines.promotion.deployment import TRAINING_TAG
from ml_pipelines.spec.batch import DriftLimits, ModelReference
from ml_pipelines.steps.batch.measure_drift import MAX_ROWS, measure_drift, resolve

SOMEBODY = Identity(pipeline="watch", run_id="r", task_id="measure_drift")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ABOUT = {"model": "churn", "version": "1", "watch": "scores", "batch": "b", "scored_with": "1", "first": "a"}


def parameters(**limits):
    limits = {"min_rows": 100} | limits
    return MeasureDriftParameters(watch="scores", model=ModelReference(name="churn"), limits=DriftLimits(**limits))


def rows(count=1000, shift=0.0, colours=("red", "blue"), seed=5):
    rng = np.random.default_rng(seed)
    return pl.LazyFrame({"id": range(count), "x": rng.normal(shift, size=count), "colour": rng.choice(colours, count)})


def scores(shift=0.0, seed=6):
    found = np.clip(np.random.default_rng(seed).normal(0.4 + shift, 0.1, size=1000), 0, 1)
    return pl.LazyFrame({"id": range(1000), "prediction": ["good"] * 1000, "probability": found})


@pytest.fixture
def measured(make_run):
    def of(table, *, now=None, then=None, told=None):
        run = make_run("binary")
        return measure_drift(
            table=table,
            scores=scores() if now is None else now,
            baseline=then,
            training=run.records[0],
            about=ABOUT,
            parameters=told or parameters(),
            seed=0,
        )

    return of


def test_rows_like_those_of_the_training_are_stable(measured):
    made = measured(rows(), then=scores(seed=7))
    values = made.values
    assert (values["judged"], values["features"], values["predictions"], values["drifted"]) == (True, False, False, [])
    assert values["largest"] < 0.1
    assert values["prediction_index"] < 0.1
    assert values["reason"].startswith("0 of 2 features have drifted; the predictions have an index of 0.0")
    assert '<span class="verdict good">Stable</span>' in made.outputs["report"]


def test_a_feature_that_has_moved_is_named_and_drawn_in_a_page_that_loads_nothing(measured):
    made = measured(rows(shift=1.5))
    assert made.values["drifted"] == ["x"]
    assert made.values["features"] is True
    assert made.values["largest"] == made.outputs["drift"]["features"][0]["index"]
    page = made.outputs["report"]
    assert '<span class="verdict bad">Drifted</span>' in page
    assert page.count("<svg") == 3  # the indices, and both features then and now
    assert "Not measured: no earlier batch of version 1 is on record." in page
    assert not [word for word in ("<script", "src=", "@import") if word in page]


def test_how_many_features_must_move_and_how_far_is_declared(measured):
    moved = rows(shift=1.5)
    assert measured(moved, told=parameters(features=2)).values["features"] is False
    assert measured(moved, told=parameters(index=50.0)).values["drifted"] == []
    assert measured(rows(shift=1.5, colours=("green",)), told=parameters(features=2)).values["features"] is True


def test_predictions_are_compared_with_an_earlier_batch(measured):
    made = measured(rows(), now=scores(shift=0.3), then=scores(seed=7))
    assert (made.values["features"], made.values["predictions"]) == (False, True)
    assert "the first batch of the same version on record, run a." in made.outputs["report"]


@pytest.mark.parametrize(
    ("then", "now", "drifted"),
    [(["a", "b"], ["a", "b"], False), (["a", "b"], ["a", "a"], True), ([1.0, 2.0], [1.0, 2.0], False)],
)
def test_labels_and_numbers_are_predictions_too(measured, then, now, drifted):
    tables = [pl.LazyFrame({"prediction": values * 300}) for values in (then, now)]
    assert measured(rows(), then=tables[0], now=tables[1]).values["predictions"] is drifted


def test_few_rows_are_not_judged(measured):
    made = measured(rows(99, shift=1.5), told=parameters())
    assert (made.values["judged"], made.values["features"]) == (False, False)
    assert made.values["reason"] == "not judged: 99 rows are fewer than the 100 that limits.min_rows asks for"


def test_of_a_large_batch_some_rows_are_enough(measured):
    large = pl.concat([rows(MAX_ROWS), rows(100, shift=1.5)])
    assert measured(large).values["rows"] == MAX_ROWS + 100
    assert measured(large).values["drifted"] == []


def ref(text):
    return ArtifactRef(uri=f"memory://{text}", sha256=text * 64, bytes=1, kind="table")


def scored(run_id, version, text, outcome="complete"):
    results = {
        "ingest_batch": StepResult(
            step="ingest_batch",
            key="0" * 64,
            status="computed",
            reason="miss",
            outputs={"table": ref(text)},
            values={"model": {"version": version}},
        ),
        "collect_scores": StepResult(
            step="collect_scores",
            key="0" * 64,
            status="computed",
            reason="miss",
            outputs={"scores": ref(text)},
            values={"outcome": outcome},
        ),
    }
    whose = Identity(pipeline="scores", run_id=run_id, task_id="t")
    return [TaskRecord(whose, result, NOON) for result in results.values()]


def test_the_last_batch_with_scores_is_compared_with_the_first_of_its_version(run):
    run.champion(tags={TRAINING_TAG: run.trainings[0].model_dump_json()})
    run.services.done = [
        *scored("old", "0", "a"),
        *scored("first", "1", "b"),
        *scored("second", "1", "c"),
        *scored("last", "1", "d"),
        *scored("nothing", "1", "e", outcome="empty"),
        *scored("broken", "1", "f")[:1],
    ]
    found = resolve(parameters(), {}, run.services, SOMEBODY)
    assert found.inputs == {
        "table": ref("d"),
        "scores": ref("d"),
        "training": run.trainings[0],
        "baseline": ref("b"),
    }
    assert found.values == {"batch": "last", "version": "1", "scored_with": "1"}
    assert found.prepare("")["about"]["first"] == "first"
    run.services.done = scored("only", "1", "a")
    assert "baseline" not in resolve(parameters(), {}, run.services, SOMEBODY).inputs


def test_what_can_not_be_compared_is_told(run):
    with pytest.raises(RegistryError, match="no version has the alias champion"):
        resolve(parameters(), {}, run.services, SOMEBODY)
    run.champion(tags={TRAINING_TAG: run.trainings[0].model_dump_json()})
    with pytest.raises(DataError, match="scores has scored nothing yet") as caught:
        resolve(parameters(), {}, run.services, SOMEBODY)
    assert caught.value.fix == "correct the name of the scoring's DAG, or run it first"
