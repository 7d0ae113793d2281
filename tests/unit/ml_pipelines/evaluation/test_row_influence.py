"""Many rows: sums that move along influences say what a draw of every row says."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from ml_pipelines.evaluation import resampling_schemes
from ml_pipelines.evaluation.bootstrap import bootstrap_metrics, percentile_interval
from ml_pipelines.evaluation.ranking_metrics import AVERAGE_PRECISION, ROC_AUC, influence_values
from ml_pipelines.evaluation.row_influence import linear_resamples
from ml_pipelines.evaluation.scorers import compute_metrics
from ml_pipelines.evaluation.target_schema import TargetSchema
from ml_pipelines.spec.metric_table import metrics_of

BINARY = TargetSchema("classification", (0, 1), 1)
FOUR = TargetSchema("classification", ("a", "b", "c", "d"))
REGRESSION = TargetSchema("regression")
LINEAR = {
    task: [metric.name for metric in metrics_of(task) if metric.resampling in ("ranking", "row_sums")]
    for task in ("classification", "regression")
}
STATISTICS = [ROC_AUC, AVERAGE_PRECISION]
SCORERS = {"roc_auc": sk.roc_auc_score, "average_precision": sk.average_precision_score}


def binary(rows: int, share: float, *, alike: float = 0.8, signal: float = 1.5, seed: int = 3) -> Any:
    """Truth and two models' scores, whose errors have a correlation of `alike`."""
    rng = np.random.default_rng(seed)
    truth = (np.arange(rows) < share * rows).astype(np.int64)
    common = rng.normal(size=rows)
    scores = {}
    for name, clear in (("ours", signal + 0.01), ("theirs", signal)):
        raw = clear * (truth - 0.5) + alike**0.5 * common + (1 - alike) ** 0.5 * rng.normal(size=rows)
        scores[name] = 1 / (1 + np.exp(-raw))
    return BINARY, truth, scores


def multiclass(rows: int) -> Any:
    rng = np.random.default_rng(5)
    truth = rng.choice(4, size=rows, p=[0.5, 0.3, 0.1, 0.1])
    scores = {}
    for name, clear in (("ours", 1.2), ("theirs", 1.25)):
        raw = np.exp(clear * np.eye(4)[truth] + rng.normal(size=(rows, 4)))
        scores[name] = raw / raw.sum(axis=1, keepdims=True)
    return FOUR, truth, scores


def regression(rows: int, *, decimals: int = 9) -> Any:
    """Student's t with two degrees of freedom: a few rows make up most of the squares."""
    rng = np.random.default_rng(5)
    truth = rng.standard_t(2, size=rows)
    scores = {name: truth + width * rng.standard_t(2, size=rows) for name, width in (("ours", 0.5), ("theirs", 0.52))}
    return REGRESSION, truth.round(decimals), {name: score.round(decimals) for name, score in scores.items()}


@settings(deadline=None, max_examples=60)
@given(rows=st.integers(4, 40), seed=st.integers(0, 1000), decimals=st.integers(1, 3))
def test_influence_values_sum_to_the_metric_and_are_its_derivatives(rows: Any, seed: Any, decimals: Any) -> None:
    rng = np.random.default_rng(seed)
    hit, score = rng.permutation(np.arange(rows) < rng.integers(1, rows)), rng.random(rows).round(decimals)
    result = influence_values(hit, score, STATISTICS)
    row, step = rng.integers(rows), 1e-5
    of_class = hit == hit[row]
    weight = np.ones(rows) + step * (np.arange(rows) == row)
    weight[of_class] *= of_class.sum() / weight[of_class].sum()
    for name, column in zip(SCORERS, result.T, strict=True):
        value = SCORERS[name](hit, score)
        assert column.sum() == pytest.approx(value)
        slope = (SCORERS[name](hit, score, sample_weight=weight) - value) / step
        assert column[row] - column[of_class].mean() == pytest.approx(slope, abs=1e-4)


def test_influence_values_depend_on_ranks_only() -> None:
    _, truth, scores = binary(300, 0.3)
    for order in (np.arange(300), np.random.default_rng(1).permutation(300)):
        again = influence_values(truth[order] == 1, np.exp(5 * scores["ours"][order]), STATISTICS)
        assert again == pytest.approx(influence_values(truth == 1, scores["ours"], STATISTICS)[order])


def test_linear_resamples_have_the_covariance_of_poisson_weights() -> None:
    rng = np.random.default_rng(1)
    columns = rng.standard_t(3, size=(20_000, 3)) @ rng.normal(size=(3, 3))
    bounds = [(0, 12_000), (12_000, 20_000)]
    (moved,) = linear_resamples([columns], bounds, 20_000, rng)
    centred = np.concatenate([columns[first:last] - columns[first:last].mean(axis=0) for first, last in bounds])
    expected = centred.T @ centred
    scale = np.sqrt(np.diag(expected))
    assert np.cov(moved.T) / np.outer(scale, scale) == pytest.approx(expected / np.outer(scale, scale), abs=0.04)
    assert moved.mean(axis=0) / scale == pytest.approx(np.zeros(3), abs=0.03)


def test_linear_resamples_draw_heavy_rows_one_by_one() -> None:
    rng = np.random.default_rng(1)
    columns = np.zeros((50_000, 2))
    columns[rng.choice(50_000, 500, replace=False), 0] = np.resize([1.0, -1.0], 500)
    columns[:, 1] = rng.normal(size=50_000)
    columns[9, 1] = 1e5
    (moved,) = linear_resamples([columns], [(0, 50_000)], 4000, rng)
    assert (moved[:, 0] == moved[:, 0].round()).all()
    assert moved[:, 0].std() == pytest.approx(500**0.5, rel=0.05)
    times = (moved[:, 1] / 1e5).round() + 1
    assert [(times == count).mean() for count in (0, 1, 2)] == pytest.approx([0.368, 0.368, 0.184], abs=0.03)


def test_linear_resamples_of_equal_models_are_equal() -> None:
    rng = np.random.default_rng(1)
    columns = rng.normal(size=(30_000, 2))
    ours, theirs, third = linear_resamples([columns, np.zeros((30_000, 2)), columns], [(0, 30_000)], 100, rng)
    assert (theirs == 0).all()
    assert third == pytest.approx(ours, abs=1e-9)
    target, truth, scores = binary(30_000, 0.3)
    drawn = bootstrap_metrics(target, truth, dict.fromkeys(scores, scores["ours"]), draws=200, seed=1)
    for models in drawn.values():
        assert (models["ours"] == models["theirs"]).all()


CASES = {
    "two classes": lambda: binary(21_000, 0.15),
    "few hits": lambda: binary(21_000, 0.052),
    "very few hits": lambda: binary(21_000, 0.01),
    "models alike": lambda: binary(21_000, 0.3, alike=0.999),
    "hardly an error": lambda: binary(21_000, 0.3, signal=6),
    "four classes": lambda: multiclass(21_000),
    "regression": lambda: regression(21_000),
}


@pytest.mark.parametrize("case", CASES)
def test_linear_intervals_equal_those_of_weights(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two bounds of 4000 draws each differ by chance, by 1.5 % of the interval's width in the standard deviation.

    A thousand hits move average precision by another 2 %: in a resample a row that was drawn twice stands beside
    itself, which makes the draws of weights a little too good.
    """
    target, truth, scores = CASES[case]()
    options: Any = {"draws": 4000, "seed": 1, "metrics": LINEAR[target.task]}
    linear = bootstrap_metrics(target, truth, scores, **options)
    monkeypatch.setattr(resampling_schemes, "LINEAR_ROWS", sys.maxsize)
    weighted = bootstrap_metrics(target, truth, scores, **options)
    assert [*linear] == [*weighted]
    for metric, models in weighted.items():
        pairs = [(models["ours"], linear[metric]["ours"])]
        pairs += [tuple(item[metric]["ours"] - item[metric]["theirs"] for item in (weighted, linear))]
        for by_rows, by_sums in pairs:
            one, two = percentile_interval(by_rows, 0.95), percentile_interval(by_sums, 0.95)
            assert one is not None
            assert two is not None
            width = one.high - one.low
            assert (two.low, two.high) == pytest.approx((one.low, one.high), abs=0.08 * width), metric
            assert by_sums.mean() == pytest.approx(by_rows.mean(), abs=0.03 * width), metric
            assert by_sums.std() == pytest.approx(by_rows.std(), rel=0.06), metric


@pytest.mark.parametrize("decimals", [2, 9])
def test_median_scheme_equals_the_generic_scheme(decimals: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling_schemes, "GENERIC_DRAWS", 800)
    target, truth, scores = regression(3001, decimals=decimals)
    options: Any = {"draws": 800, "seed": 1, "metrics": ["median_ae"]}
    by_rows = bootstrap_metrics(target, truth, scores, **options)["median_ae"]
    monkeypatch.setattr(resampling_schemes, "LINEAR_ROWS", 0)
    result = bootstrap_metrics(target, truth, scores, **options)["median_ae"]
    for pick in (lambda item: item["ours"], lambda item: item["ours"] - item["theirs"]):
        one, two = pick(by_rows), pick(result)
        assert two.mean() == pytest.approx(one.mean(), abs=0.15 * one.std() + 1e-12)
        assert two.std() == pytest.approx(one.std(), rel=0.08)
    assert np.isin(result["ours"].round(9), np.abs(truth - scores["ours"]).round(9)).all()


def test_linear_resamples_stay_in_the_range_of_the_metric() -> None:
    target, truth, scores = binary(30_000, 0.3, signal=8)
    drawn = bootstrap_metrics(target, truth, scores, draws=2000, seed=1)
    for name, value in compute_metrics(target, truth, scores["ours"]).items():
        assert (drawn[name]["ours"] >= 0).all()
        assert name == "log_loss" or (drawn[name]["ours"] <= 1).all()
        assert drawn[name]["ours"].mean() == pytest.approx(value, abs=0.2 * drawn[name]["ours"].std() + 1e-9)
    perfect = np.arange(30_000.0)
    for metric, models in bootstrap_metrics(REGRESSION, perfect, {"ours": perfect}, draws=200, seed=1).items():
        assert (models["ours"] == (1 if metric == "r2" else 0)).all()
