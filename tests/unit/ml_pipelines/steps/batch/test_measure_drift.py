from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from ml_pipelines.contracts import ArtifactRef, Identity, StepResult
from ml_pipelines.errors import DataError, RegistryError
from ml_pipelines.pipeline.batch_parameters import MeasureDriftParameters
from ml_pipelines.ports import TaskRecord
from ml_pipelines.spec.batch import DriftLimits, ModelReference
from ml_pipelines.steps.batch.measure_drift import MAX_ROWS, measure_drift, resolve

IDENTITY = Identity(pipeline="watch", run_id="r", task_id="measure_drift")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ABOUT = {"model": "churn", "version": "1", "watch": "scores", "batch": "b", "scored_with": "1", "first": "a"}


def parameters(**limits):
    limits = {"min_rows": 100} | limits
    return MeasureDriftParameters(watch="scores", model=ModelReference(name="churn"), limits=DriftLimits(**limits))


def rows(count=1000, shift=0.0, colours=("red", "blue"), seed=5):
    rng = np.random.default_rng(seed)
    return pl.LazyFrame({"id": range(count), "x": rng.normal(shift, size=count), "colour": rng.choice(colours, count)})


def scores(shift=0.0, seed=6):
    probabilities = np.clip(np.random.default_rng(seed).normal(0.4 + shift, 0.1, size=1000), 0, 1)
    return pl.LazyFrame({"id": range(1000), "prediction": ["good"] * 1000, "probability": probabilities})


@pytest.fixture
def measured(make_run):
    def of(table, *, current=None, baseline=None, changed=None):
        run = make_run("binary")
        return measure_drift(
            table=table,
            scores=scores() if current is None else current,
            baseline=baseline,
            training=run.records[0],
            about=ABOUT,
            parameters=changed or parameters(),
            seed=0,
        )

    return of


def test_measure_drift_finds_rows_like_those_of_the_training_stable(measured):
    output = measured(rows(), baseline=scores(seed=7))
    values = output.values
    assert (values["judged"], values["features"], values["predictions"], values["drifted"]) == (True, False, False, [])
    assert values["largest"] < 0.1
    assert values["prediction_index"] < 0.1
    assert values["reason"].startswith("0 of 2 features have drifted; the predictions have an index of 0.0")
    assert '<span class="verdict good">Stable</span>' in output.outputs["report"]


def test_measure_drift_names_and_plots_a_drifted_feature(measured):
    output = measured(rows(shift=1.5))
    assert output.values["drifted"] == ["x"]
    assert output.values["features"] is True
    assert output.values["largest"] == output.outputs["drift"]["features"][0]["index"]
    page = output.outputs["report"]
    assert '<span class="verdict bad">Drifted</span>' in page
    assert page.count("<svg") == 3  # the indices, and both features then and now
    assert "Not measured: no earlier batch of version 1 is on record." in page
    assert not [word for word in ("<script", "src=", "@import") if word in page]


def test_measure_drift_follows_the_declared_limits(measured):
    shifted = rows(shift=1.5)
    assert measured(shifted, changed=parameters(features=2)).values["features"] is False
    assert measured(shifted, changed=parameters(index=50.0)).values["drifted"] == []
    assert measured(rows(shift=1.5, colours=("green",)), changed=parameters(features=2)).values["features"] is True


def test_measure_drift_compares_predictions_with_an_earlier_batch(measured):
    output = measured(rows(), current=scores(shift=0.3), baseline=scores(seed=7))
    assert (output.values["features"], output.values["predictions"]) == (False, True)
    assert "the first batch of the same version on record, run a." in output.outputs["report"]


@pytest.mark.parametrize(
    ("baseline", "current", "drifted"),
    [(["a", "b"], ["a", "b"], False), (["a", "b"], ["a", "a"], True), ([1.0, 2.0], [1.0, 2.0], False)],
)
def test_measure_drift_compares_labels_and_numbers(measured, baseline, current, drifted):
    tables = [pl.LazyFrame({"prediction": values * 300}) for values in (baseline, current)]
    assert measured(rows(), baseline=tables[0], current=tables[1]).values["predictions"] is drifted


def test_measure_drift_does_not_judge_few_rows(measured):
    output = measured(rows(99, shift=1.5), changed=parameters())
    assert (output.values["judged"], output.values["features"]) == (False, False)
    assert all(fact in output.values["reason"] for fact in ("99 rows", "limits.min_rows", "100"))


def test_measure_drift_samples_a_large_batch(measured):
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
    identity = Identity(pipeline="scores", run_id=run_id, task_id="t")
    return [TaskRecord(identity, result, NOON) for result in results.values()]


def test_resolve_finds_the_last_batch_and_the_first_one_of_its_version(run):
    run.recorded_champion()
    run.services.done = [
        *scored("old", "0", "a"),
        *scored("first", "1", "b"),
        *scored("second", "1", "c"),
        *scored("last", "1", "d"),
        *scored("nothing", "1", "e", outcome="empty"),
        *scored("broken", "1", "f")[:1],
    ]
    resolution = resolve(parameters(), {}, run.services, IDENTITY)
    assert resolution.inputs == {
        "table": ref("d"),
        "scores": ref("d"),
        "training": run.trainings[0],
        "baseline": ref("b"),
    }
    assert resolution.values == {"batch": "last", "version": "1", "scored_with": "1"}
    assert resolution.prepare("")["about"]["first"] == "first"
    run.services.done = scored("only", "1", "a")
    assert "baseline" not in resolve(parameters(), {}, run.services, IDENTITY).inputs


def test_resolve_reports_a_missing_champion_and_a_missing_batch(run):
    with pytest.raises(RegistryError, match="no version has the alias champion"):
        resolve(parameters(), {}, run.services, IDENTITY)
    run.recorded_champion()
    with pytest.raises(DataError, match="scores has no scored batch") as caught:
        resolve(parameters(), {}, run.services, IDENTITY)
    assert caught.value.where == "watch"
