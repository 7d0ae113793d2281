from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import datasets

from ml_pipelines.data.leakage import measure_leakage

LABELS = np.arange(400) % 2
NOISE = np.random.default_rng(0).normal(size=400)
LEAKS = {
    "the label itself": (LABELS * 1.0).tolist(),
    "a falling function of the label": (5.0 - LABELS + NOISE / 1000).tolist(),
    "text": np.where(LABELS == 1, "left", "stayed").tolist(),
    "a value for one label only": [float(value) if label else None for value, label in zip(NOISE, LABELS, strict=True)],
    "a boolean": (LABELS == 0).tolist(),
    "high or missing": [9.0 + row if row % 4 == 1 else None if row % 4 == 3 else NOISE[row] for row in range(400)],
}
HARMLESS = {
    "noise": NOISE.tolist(),
    "two values that happen to fit": [1.0 if row in (1, 3) else None for row in range(400)],
}


def measured(column, target=LABELS, task="classification"):
    return measure_leakage(pl.DataFrame({"x": column, "y": target}), "y", task)


def strengths(column, target=LABELS, task="classification"):
    return measured(column, target, task).strengths


@pytest.mark.parametrize("name", LEAKS)
@pytest.mark.parametrize("labels", [LABELS, LABELS + np.arange(400) // 399 * 2], ids=["binary", "multiclass"])
def test_measure_leakage_is_high_for_a_column_that_determines_the_label(name, labels):
    assert strengths(LEAKS[name], labels)["x"] >= 0.99


def test_measure_leakage_names_the_class_that_a_column_identifies():
    labels = np.where(LABELS == 1, "stayed", np.where(NOISE > 0, "left", "moved"))
    leakage = measured((LABELS == 0) * 100 + np.roll(NOISE, 1), labels)
    label, auc = leakage.of_one_class["x"]
    assert (label, auc >= 0.99) == ("stayed", True)
    assert leakage.strengths["x"] < 0.95


ROWS = np.random.default_rng(1)
LEVELS = np.minimum(ROWS.zipf(1.4, 3000), 336)
NAMES = {level: f"breed {level}" for level in range(1, 337)}
BREEDS = [NAMES[level] for level in LEVELS]


def test_measure_leakage_judges_text_of_many_levels_by_its_values():
    """Nearly every level has one species; levels that occur once don't count."""
    species = np.where(LEVELS % 3 == 0, "cat", "dog")
    species[LEVELS == 5] = np.where(np.arange((LEVELS == 5).sum()) % 9, "dog", "cat")
    assert strengths(BREEDS, species)["x"] >= 0.99


def test_measure_leakage_judges_codes_without_an_order():
    codes = ROWS.integers(0, 40, 3000)
    assert strengths(codes, codes * 7 % 5 == 0)["x"] == pytest.approx(1)
    assert strengths(codes.astype(float), (codes * 7 % 5).astype(float), "regression")["x"] >= 0.99
    assert strengths([date(2026, 1, 1) + timedelta(int(code)) for code in codes], codes % 3)["x"] >= 0.99


def test_measure_leakage_judges_text_in_a_regression():
    weights = LEVELS * 37 % 101 / 10
    assert strengths(BREEDS, weights, "regression")["x"] >= 0.99
    assert strengths(BREEDS, ROWS.permutation(weights), "regression")["x"] < 0.1


def test_measure_leakage_finds_missing_values_that_determine_the_target():
    numbers = [f"refund {row}" if label else None for row, label in enumerate(LABELS)]
    leakage = measured(numbers)
    assert leakage.strengths["x"] >= 0.99
    assert "once" in leakage.not_judged["x"]
    target = NOISE + 100 * LABELS
    assert strengths(numbers, target, "regression")["x"] > 0.7


@pytest.mark.parametrize("task", ["classification", "regression"])
@given(share=st.floats(0.02, 1), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_measure_leakage_gives_no_alarm_on_noise(task, share, seed):
    rng = np.random.default_rng(seed)
    target = rng.normal(size=400) if task == "regression" else rng.integers(0, 3, 400)
    codes = rng.integers(0, max(2, int(share * 4000)), 400)
    frame = pl.DataFrame({"text": [f"n{code}" for code in codes], "code": codes, "empty": [None] * 400, "y": target})
    leakage = measure_leakage(frame, "y", task)
    assert max(leakage.strengths.values()) < 0.8
    assert max([auc for _, auc in leakage.of_one_class.values()], default=0) < 0.9


@pytest.mark.parametrize("load", [datasets.load_iris, datasets.load_wine, datasets.load_breast_cancer])
def test_measure_leakage_holds_no_data_set_of_scikit_learn(load):
    frame = pl.from_pandas(load(as_frame=True).frame)
    assert max(measure_leakage(frame, "target", "classification").strengths.values()) < 0.99


def test_measure_leakage_gives_no_alarm_on_the_diabetes_data():
    frame = pl.from_pandas(datasets.load_diabetes(as_frame=True).frame)
    assert max(measure_leakage(frame, "target", "regression").strengths.values()) < 0.7


@pytest.mark.parametrize("name", HARMLESS)
def test_measure_leakage_is_low_for_a_column_without_information(name):
    assert strengths(HARMLESS[name])["x"] < 0.6


def test_measure_leakage_lists_columns_that_it_does_not_judge():
    leakage = measured([f"v{row}" for row in range(400)])
    assert list(leakage.not_judged) == ["x"]
    assert leakage.strengths["x"] < 0.6
    assert measured([[row % 2] for row in range(400)]).not_judged == {"x": "of type List(Int64)"}


def test_measure_leakage_is_the_roc_auc_of_scikit_learn():
    from sklearn.metrics import roc_auc_score

    values = np.round(NOISE + LABELS, 1)
    assert strengths(values)["x"] == pytest.approx(roc_auc_score(LABELS, values))


def test_measure_leakage_is_a_rank_correlation_in_a_regression():
    assert strengths(np.exp(-NOISE), NOISE, "regression")["x"] == pytest.approx(1)
    assert strengths(np.roll(NOISE, 1), NOISE, "regression")["x"] < 0.2
    assert strengths([1.0] * 400, NOISE, "regression")["x"] == 0


def test_measure_leakage_reads_times_as_numbers():
    days = [date(2026, 1, 1 + label) for label in LABELS]
    assert strengths(days)["x"] == 1.0


@pytest.mark.parametrize("rows", [0, 1, 8])
def test_measure_leakage_is_empty_for_too_few_rows(rows):
    assert strengths(NOISE[:rows], LABELS[:rows]) == {}


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_measure_leakage_takes_column_names_as_they_are(task):
    columns = {"^x$": LABELS * 1.0, "*": NOISE, "x": NOISE, "^y$": LABELS}
    strengths = measure_leakage(pl.DataFrame(columns), "^y$", task).strengths
    assert strengths["^x$"] == pytest.approx(1)
    assert max(strengths["*"], strengths["x"]) < 0.6
