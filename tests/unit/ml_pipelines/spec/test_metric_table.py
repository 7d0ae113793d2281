"""Metrics of other packages, from the entry point to the gate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import matthews_corrcoef
from tests.step_values import split_record

from ml_pipelines._utils.imports import import_object
from ml_pipelines.contracts import Decision
from ml_pipelines.errors import ExtensionError, SpecError
from ml_pipelines.evaluation import resampling_schemes
from ml_pipelines.evaluation.bootstrap import bootstrap_metrics, percentile_interval
from ml_pipelines.evaluation.records import Evaluation
from ml_pipelines.evaluation.scorers import compute_metrics
from ml_pipelines.evaluation.target_schema import TargetSchema
from ml_pipelines.pipeline.step_parameters import EvaluateParameters, TrainParameters
from ml_pipelines.promotion.gate import apply_gate
from ml_pipelines.spec.loader import parse_spec
from ml_pipelines.spec.metric_table import (
    METRICS,
    Metric,
    distributions_of,
    find_metric,
    get_metric,
    metrics_of,
)
from ml_pipelines.steps.training.evaluate import evaluate
from ml_pipelines.steps.training.train import train

Install = Callable[..., None]

BINARY = TargetSchema("classification", (0, 1), 1)
REGRESSION = TargetSchema("regression")
MODULE = """
from ml_pipelines.spec.metric_table import Metric

METRICS = [
    Metric(name="matthews", label="Matthews correlation", task="classification",
           scorer="sklearn.metrics:matthews_corrcoef", needs="labels", best_value=1.0),
    Metric(name="max_error", label="Largest error", task="regression", greater_is_better=False,
           scorer="sklearn.metrics:max_error", needs="values"),
]
CLASH = Metric(name="roc_auc", label="x", task="classification", scorer="a:b", needs="labels")
NOTHING = 1
"""


@pytest.fixture
def more_metrics(install: Install) -> None:
    install("more_metrics", MODULE, metrics={"more": "more_metrics:METRICS"})


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_metrics_row_refers_to_objects_that_exist(metric: Metric) -> None:
    assert callable(import_object(metric.scorer))
    assert metric.statistic is not None
    assert import_object(metric.statistic) is not None
    assert metric.label


def test_get_metric_returns_a_metric_of_an_installed_package(more_metrics: None) -> None:
    assert get_metric("matthews").label == "Matthews correlation"
    assert get_metric("matthews").resampling == "generic"
    assert [metric.name for metric in metrics_of("regression", ["max_error", "mae"])][-1] == "max_error"
    assert distributions_of(["matthews", "roc_auc"]) == {"matthews": "more_metrics==1.0"}


def test_get_metric_refuses_an_unknown_name() -> None:
    assert find_metric("matthews") is None
    with pytest.raises(SpecError, match="'matthews'"):
        get_metric("matthews")


def test_find_metric_does_not_load_entry_points_for_a_known_name(install: Install) -> None:
    install("more_metrics", MODULE, metrics={"more": "no_such_module:METRICS"})
    assert find_metric("roc_auc") is METRICS["roc_auc"]
    with pytest.raises(ExtensionError):
        find_metric("matthews")


@pytest.mark.parametrize("entry", ["more_metrics:CLASH", "more_metrics:NOTHING"])
def test_find_metric_refuses_a_wrong_entry_point(entry: str, install: Install) -> None:
    install("more_metrics", MODULE, metrics={"more": entry})
    with pytest.raises(ExtensionError) as caught:
        find_metric("matthews")
    assert caught.value.got == entry


def test_bootstrap_resamples_rows_for_a_metric_without_a_scheme(more_metrics: None) -> None:
    """More than 20,000 rows: the interval is that of a plain bootstrap, not of a scheme of another metric."""
    rng = np.random.default_rng(1)
    truth = rng.normal(size=resampling_schemes.LINEAR_ROWS + 1000)
    predictions = {"model": truth + rng.exponential(size=len(truth))}
    draws = bootstrap_metrics(REGRESSION, truth, predictions, draws=2000, seed=3, metrics=["max_error"])
    values = draws["max_error"]["model"]
    assert len(values) == resampling_schemes.GENERIC_DRAWS
    errors = np.abs(truth - predictions["model"])
    expected = [errors[rng.integers(0, len(truth), len(truth))].max() for _ in range(4000)]
    assert np.isin(values, errors).all()
    assert np.mean(values == errors.max()) == pytest.approx(1 - np.exp(-1), abs=0.08)
    assert np.quantile(values, [0.25, 0.5]) == pytest.approx(np.quantile(expected, [0.25, 0.5]), rel=0.05)


def test_bootstrap_interval_of_a_classification_metric_is_that_of_a_plain_bootstrap(more_metrics: None) -> None:
    rng = np.random.default_rng(2)
    truth = (np.arange(21_000) < 6000).astype(np.int64)
    probabilities = np.clip(0.35 * truth + rng.normal(0.35, 0.25, len(truth)), 0, 1)
    metrics = [get_metric("matthews")]
    value = compute_metrics(BINARY, truth, probabilities, metrics)["matthews"]
    assert value == pytest.approx(matthews_corrcoef(truth, probabilities >= 0.5))
    draws = bootstrap_metrics(BINARY, truth, {"model": probabilities}, draws=500, seed=3, metrics=["matthews"])
    interval = percentile_interval(draws["matthews"]["model"], 0.9)
    plain = []
    for _ in range(500):
        rows = np.concatenate([rng.integers(0, 6000, 6000), rng.integers(6000, 21_000, 15_000)])
        plain.append(matthews_corrcoef(truth[rows], probabilities[rows] >= 0.5))
    low, high = np.quantile(plain, [0.05, 0.95])
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.2 * (high - low))


@pytest.mark.parametrize(
    "row",
    [
        {"resampling": "jackknife"},
        {"resampling": "row_sums"},
        {"scorer": "math:sqrt"},
        {"needs": "colours"},
    ],
    ids=["unknown scheme", "scheme without statistic", "failing scorer", "unknown needs"],
)
def test_bootstrap_refuses_a_wrong_row(row: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"scorer": "sklearn.metrics:max_error", "needs": "values", **row}
    wrong = Metric(name="wrong", label="Wrong", task="regression", **fields)
    numbers = np.arange(5.0)
    sample = resampling_schemes.Sample.of(REGRESSION, numbers, {"model": numbers})
    with pytest.raises(ExtensionError, match="'wrong'"):
        resampling_schemes.scheme_of(wrong, sample).resample(sample, [wrong], 2, np.random.default_rng(1))


def test_metric_of_another_package_decides_in_the_gate(more_metrics: None) -> None:
    """From the declaration over evaluation and comparison to the verdict, with the metric as primary metric."""
    spec = parse_spec(
        """\
model: {name: churn, task: classification}
data: {file: {path: a.csv}, target: label, key: id}
candidates: [{name: linear, estimator: sklearn.linear_model.LogisticRegression}]
gate: {metric: matthews, thresholds: {matthews: 0.5}, draws: 200}
""",
        path="churn.yaml",
    )
    parameters = EvaluateParameters.of(spec)
    assert parameters.other_metrics == ("matthews",)
    x = np.random.default_rng(0).normal(size=400)
    table = pl.LazyFrame({"x": x, "label": (x > 0).astype(int)})
    trained = train(
        table=table, validation=table, split=split_record(), parameters=TrainParameters.of(spec), seed=1
    ).outputs
    evaluation = Evaluation.model_validate(
        evaluate(
            models=[lambda: trained["model"]],
            trainings=[trained["training"]],
            predictions=[trained["predictions"]],
            train=table,
            validation=table,
            test=table,
            parameters=parameters,
            seed=1,
        ).outputs["evaluation"]
    )
    winner = evaluation.candidates[evaluation.winner_index]
    assert winner.test["matthews"] == pytest.approx(1, abs=0.1)
    assert evaluation.intervals["matthews"].high <= 1
    evidence = Decision(
        outcome="held",
        reason="",
        model="churn",
        candidate=winner.candidate,
        metric="matthews",
        metrics=winner.test,
        dummy_metrics=evaluation.dummy.test,
        dummy_comparison=evaluation.dummy.comparison,
        intervals=evaluation.intervals,
    )
    assert "threshold matthews" in {rule.rule for rule in apply_gate(evidence, spec.gate).rules}
    assert apply_gate(evidence, spec.gate).outcome == "promoted"
    strict = spec.gate.model_copy(update={"thresholds": {"matthews": 1.5}})
    assert apply_gate(evidence, strict).outcome == "rejected"


def test_declaration_reports_a_threshold_that_no_model_reaches(more_metrics: None) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(
            "model: {name: churn, task: classification}\n"
            "data: {file: {path: a.csv}, target: label, key: id}\n"
            "gate: {metric: roc_auc, thresholds: {matthews: 1.5, max_error: 3.0}}\n",
            path="churn.yaml",
        )
    assert {issue.path for issue in caught.value.issues} == {"gate.thresholds.matthews", "gate.thresholds.max_error"}
