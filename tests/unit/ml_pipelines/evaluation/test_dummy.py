from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_percentage_error, mean_pinball_loss

from ml_pipelines.errors import ExtensionError
from ml_pipelines.evaluation.dummy import constant_predictions, fit_dummy
from ml_pipelines.evaluation.scorers import compute_metrics
from ml_pipelines.evaluation.target_schema import TargetSchema
from ml_pipelines.spec.metric_table import METRICS, Metric

BINARY = TargetSchema("classification", ("no", "yes"), "yes")
MANY = TargetSchema("classification", ("a", "b", "c"))
NUMBER = TargetSchema("regression")
MAPE = Metric(
    name="mape",
    label="MAPE",
    task="regression",
    scorer="sklearn.metrics:mean_absolute_percentage_error",
    needs="values",
    greater_is_better=False,
)

numbers = st.lists(st.integers(-50, 50).map(float), min_size=2, max_size=25)


def value_of(target: TargetSchema, truth: Any, constant: Any, metric: Metric) -> float | None:
    return compute_metrics(target, truth, constant_predictions(constant, len(truth)), [metric])[metric.name]


def gain_over_dummy(target: TargetSchema, truth: list[int], constant: Any, name: str) -> float:
    """By how much a constant is better than the dummy baseline on the training rows."""
    metric, rows = METRICS[name], np.array(truth)
    best = value_of(target, rows, fit_dummy(target, rows, metric), metric)
    other = value_of(target, rows, constant, metric)
    if best is None or other is None:
        return 0.0
    return other - best if metric.greater_is_better else best - other


LOSSES = {
    "rmse": ("square", np.mean),
    "r2": ("square", np.mean),
    "mae": ("abs", np.mean),
    "median_ae": ("abs", np.median),
}


@settings(deadline=None)
@given(truth=numbers, name=st.sampled_from(sorted(LOSSES)))
def test_no_constant_of_a_grid_is_better_for_a_regression(truth: list[float], name: str) -> None:
    rows, (loss, average) = np.array(truth), LOSSES[name]
    middles = np.add.outer(rows, rows).ravel() / 2
    best = fit_dummy(NUMBER, rows, METRICS[name])
    constants = np.concatenate([[best], np.linspace(rows.min(), rows.max(), 201), middles])
    losses = average(getattr(np, loss)(rows[:, None] - constants), axis=0)
    assert losses[0] <= losses.min() + 1e-9


labels = st.sampled_from([name for name, row in METRICS.items() if row.task == "classification"])


@settings(deadline=None, max_examples=150)
@given(truth=st.lists(st.integers(0, 1), min_size=2, max_size=30), constant=st.floats(0, 1), name=labels)
def test_no_constant_is_better_for_two_labels(truth: list[int], constant: float, name: str) -> None:
    assert gain_over_dummy(BINARY, truth, np.asarray(constant), name) <= 1e-9


@settings(deadline=None, max_examples=150)
@given(
    truth=st.lists(st.integers(0, 2), min_size=3, max_size=30),
    weights=st.lists(st.floats(0.01, 1), min_size=3, max_size=3),
    name=labels,
)
def test_no_constant_is_better_for_three_labels(truth: list[int], weights: list[float], name: str) -> None:
    assert gain_over_dummy(MANY, truth, np.array(weights) / np.sum(weights), name) <= 1e-9


@pytest.mark.parametrize(
    ("name", "truth", "constant"),
    [
        ("rmse", [0, 0, 1, 9], 2.5),
        ("r2", [0, 0, 1, 9], 2.5),
        ("mae", [0, 0, 1, 9, 9], 1),
        ("median_ae", [0, 4, 5, 5.5, 30], 4.75),
        ("log_loss", [0, 0, 0, 1], 0.25),
        ("brier", [0, 0, 0, 1], 0.25),
        ("accuracy", [0, 0, 0, 1], 0),
        ("f1", [0, 0, 0, 1], 1),
        ("precision", [0, 0, 0, 1], 1),
        ("recall", [0, 0, 0, 1], 1),
        ("balanced_accuracy", [0, 0, 0, 1], 0),
        ("roc_auc", [0, 0, 0, 1], 0.25),
    ],
)
def test_a_metric_has_a_constant_of_its_own(name: str, truth: list[float], constant: float) -> None:
    metric = METRICS[name]
    target = BINARY if metric.task == "classification" else NUMBER
    assert fit_dummy(target, np.array(truth), metric) == pytest.approx(constant)


def test_shares_give_no_probability_to_a_label_that_training_lacks() -> None:
    target = dataclasses.replace(MANY, unseen=("d",))
    constant = fit_dummy(target, np.array([0, 0, 1, 2]), METRICS["log_loss"])
    assert constant_predictions(constant, 2).tolist() == [[0.5, 0.25, 0.25, 0.0]] * 2


def test_the_scorer_of_another_package_chooses_its_constant() -> None:
    """The best constant of MAPE is far below the median of a skewed target."""
    truth = np.exp(np.random.default_rng(0).normal(size=2000))
    grid = np.quantile(truth, np.linspace(0, 1, 400))
    best = min(mean_absolute_percentage_error(truth, np.full(2000, constant)) for constant in grid)
    constant = fit_dummy(NUMBER, truth, MAPE)
    assert constant < np.median(truth) / 1.5
    assert value_of(NUMBER, truth, constant, MAPE) == pytest.approx(best, rel=0.005)


def ninth_decile(target: TargetSchema, truth: Any, metric: Metric) -> float:
    return float(np.quantile(truth, 0.9))


def pinball(truth: Any, predictions: Any) -> float:
    return float(mean_pinball_loss(truth, predictions, alpha=0.9))


def test_another_package_may_declare_a_function() -> None:
    metric = dataclasses.replace(MAPE, scorer=f"{__name__}:pinball", dummy=f"{__name__}:ninth_decile")
    truth = np.arange(101.0)
    assert fit_dummy(NUMBER, truth, metric) == 90
    searched = fit_dummy(NUMBER, truth, dataclasses.replace(metric, dummy="search"))
    assert searched == pytest.approx(90, abs=0.5)


def test_an_unknown_constant_is_an_error_of_the_extension() -> None:
    with pytest.raises(ExtensionError, match="'mape'"):
        fit_dummy(NUMBER, np.arange(3.0), dataclasses.replace(MAPE, dummy="mode"))
