from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import pytest

from ml_pipelines.data.leakage import leakage_strengths

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


def strengths(column, target=LABELS, task="classification"):
    return leakage_strengths(pl.DataFrame({"x": column, "y": target}), "y", task)


@pytest.mark.parametrize("name", LEAKS)
@pytest.mark.parametrize("labels", [LABELS, LABELS + np.arange(400) // 399 * 2], ids=["binary", "multiclass"])
def test_leakage_strengths_is_high_for_a_column_that_determines_the_label(name, labels):
    assert strengths(LEAKS[name], labels)["x"] >= 0.99


def test_leakage_strengths_is_high_for_a_column_that_identifies_one_of_three_classes():
    labels = np.where(LABELS == 1, "stayed", np.where(NOISE > 0, "left", "moved"))
    assert strengths((LABELS == 0) * 100 + np.roll(NOISE, 1), labels)["x"] >= 0.99


@pytest.mark.parametrize("name", HARMLESS)
def test_leakage_strengths_is_low_for_a_column_without_information(name):
    assert strengths(HARMLESS[name])["x"] < 0.6


def test_leakage_strengths_leaves_out_text_with_many_levels():
    assert strengths([f"v{row}" for row in range(400)]) == {}


def test_leakage_strengths_is_the_roc_auc_of_scikit_learn():
    from sklearn.metrics import roc_auc_score

    values = np.round(NOISE + LABELS, 1)
    assert strengths(values)["x"] == pytest.approx(roc_auc_score(LABELS, values))


def test_leakage_strengths_is_a_rank_correlation_in_a_regression():
    assert strengths(np.exp(-NOISE), NOISE, "regression")["x"] == pytest.approx(1)
    assert strengths(np.roll(NOISE, 1), NOISE, "regression")["x"] < 0.2
    assert strengths(["a", "b"] * 200, NOISE, "regression") == {}
    assert strengths([1.0] * 400, NOISE, "regression") == {}


def test_leakage_strengths_reads_times_as_numbers():
    days = [date(2026, 1, 1 + label) for label in LABELS]
    assert strengths(days)["x"] == 1.0


@pytest.mark.parametrize("rows", [0, 1, 8])
def test_leakage_strengths_is_empty_for_too_few_rows(rows):
    assert strengths(NOISE[:rows], LABELS[:rows]) == {}


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_leakage_strengths_takes_column_names_as_they_are(task):
    columns = {"^x$": LABELS * 1.0, "*": NOISE, "x": NOISE, "^y$": LABELS}
    strengths = leakage_strengths(pl.DataFrame(columns), "^y$", task)
    assert strengths["^x$"] == pytest.approx(1)
    assert max(strengths["*"], strengths["x"]) < 0.6
