"""Metrics of other packages, from the entry point to the gate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import matthews_corrcoef

from ml_pipelines._utils.entry_points import find_entry_points
from ml_pipelines._utils.imports import import_object
from ml_pipelines.errors import ExtensionError, SpecError
from ml_pipelines.evaluation import schemes
from ml_pipelines.evaluation.bootstrap import bootstrap_metrics, percentile_interval
from ml_pipelines.evaluation.scorers import compute_metrics
from ml_pipelines.evaluation.target_schema import TargetSchema
from ml_pipelines.spec.metrics import (
    METRICS,
    Metric,
    distributions_of,
    find_metric,
    get_metric,
    metrics_of,
)

BINARY = TargetSchema("classification", (0, 1), 1)
REGRESSION = TargetSchema("regression")
MODULE = """
from ml_pipelines.spec.metrics import Metric

METRICS = [
    Metric(name="matthews", label="Matthews correlation", task="classification",
           scorer="sklearn.metrics:matthews_corrcoef", needs="labels", best_value=1.0),
    Metric(name="max_error", label="Largest error", task="regression", greater_is_better=False,
           scorer="sklearn.metrics:max_error", needs="values"),
]
CLASH = Metric(name="roc_auc", label="x", task="classification", scorer="a:b", needs="labels")
NOTHING = 1
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, entry: str) -> None:
    """Install a distribution with one entry point below a folder on `sys.path`."""
    information = folder / "more_metrics-1.2.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: more-metrics\nVersion: 1.2\n")
    (information / "entry_points.txt").write_text(f"[ml_pipelines.metrics]\nmore = {entry}\n")
    (folder / "more_metrics.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(folder))
    find_entry_points.cache_clear()


@pytest.fixture
def more_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    install(tmp_path, monkeypatch, "more_metrics:METRICS")
    yield
    find_entry_points.cache_clear()


@pytest.fixture
def clean_entry_points() -> Iterator[None]:
    yield
    find_entry_points.cache_clear()


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
    assert distributions_of(["matthews", "roc_auc"]) == {"matthews": "more-metrics==1.2"}


def test_get_metric_refuses_an_unknown_name() -> None:
    assert find_metric("matthews") is None
    with pytest.raises(SpecError, match="'matthews'"):
        get_metric("matthews")


def test_find_metric_does_not_load_entry_points_for_a_known_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_entry_points: None
) -> None:
    install(tmp_path, monkeypatch, "no_such_module:METRICS")
    assert find_metric("roc_auc") is METRICS["roc_auc"]
    with pytest.raises(ExtensionError):
        find_metric("matthews")


@pytest.mark.parametrize("entry", ["more_metrics:CLASH", "more_metrics:NOTHING"])
def test_find_metric_refuses_a_wrong_entry_point(
    entry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_entry_points: None
) -> None:
    install(tmp_path, monkeypatch, entry)
    with pytest.raises(ExtensionError) as caught:
        find_metric("matthews")
    assert caught.value.got == entry


def test_bootstrap_resamples_rows_for_a_metric_without_a_scheme(more_metrics: None) -> None:
    """More than 20,000 rows: the interval is that of a plain bootstrap, not of a scheme of another metric."""
    rng = np.random.default_rng(1)
    truth = rng.normal(size=schemes.LINEAR_ROWS + 1000)
    predictions = {"model": truth + rng.exponential(size=len(truth))}
    draws = bootstrap_metrics(REGRESSION, truth, predictions, draws=2000, seed=3, metrics=["max_error"])
    values = draws["max_error"]["model"]
    assert len(values) == schemes.GENERIC_DRAWS
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
def test_bootstrap_refuses_a_wrong_row(row: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    fields: dict[str, Any] = {"scorer": "sklearn.metrics:max_error", "needs": "values", **row}
    wrong = Metric(name="wrong", label="Wrong", task="regression", **fields)
    numbers = np.arange(5.0)
    sample = schemes.Sample.of(REGRESSION, numbers, {"model": numbers})
    with pytest.raises(ExtensionError, match="'wrong'"):
        schemes.scheme_of(wrong, sample).resample(sample, [wrong], 2, np.random.default_rng(1))
