from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from ml_pipelines.evaluation import confusion_metrics
from ml_pipelines.evaluation import resampling as weights
from ml_pipelines.evaluation.bootstrap import bootstrap_metrics, percentile_interval
from ml_pipelines.evaluation.resampling_schemes import GENERIC_DRAWS, Sample, weighted_estimator
from ml_pipelines.evaluation.scorers import compute_metrics
from ml_pipelines.evaluation.target_schema import TargetSchema
from ml_pipelines.spec.metric_table import metrics_of

BINARY = TargetSchema("classification", (0, 1), 1)
THREE = TargetSchema("classification", ("a", "b", "c"))
REGRESSION = TargetSchema("regression")


def binary(rows: int, seed: int, *, share: float = 0.3, decimals: int = 2) -> tuple[Any, dict[str, Any]]:
    """Truth and the scores of two models; few decimals make many equal scores."""
    rng = np.random.default_rng(seed)
    truth = (np.arange(rows) < max(1, round(share * rows))).astype(np.int64)
    rng.shuffle(truth)
    return truth, {
        name: np.round(np.clip(0.5 * truth + rng.normal(0.25, spread, rows), 0, 1), decimals)
        for name, spread in (("ours", 0.4), ("theirs", 0.5))
    }


def three(rows: int, seed: int) -> tuple[Any, dict[str, Any]]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, rows)
    truth[:3] = [0, 1, 2]
    scores = {}
    for name in ("ours", "theirs"):
        raw = np.round(rng.random((rows, 3)) + 0.7 * np.eye(3)[truth], 2) + 0.01
        scores[name] = raw / raw.sum(axis=1, keepdims=True)
    return truth, scores


def draw_weights(sample: Sample, draws: int, seed: int) -> Any:
    return np.concatenate([*weights.weight_blocks(sample.bounds, draws, np.random.default_rng(seed))])


def by_weights(sample: Sample, weights: Any) -> dict[str, Any]:
    wanted = [metric for metric in metrics_of(sample.target.task) if metric.resampling in ("ranking", "row_sums")]
    wanted = [metric for metric in wanted if sample.target.binary or not metric.binary_only]
    return weighted_estimator(sample, "ours", wanted)(weights)


@settings(deadline=None, max_examples=30)
@given(rows=st.integers(4, 60), seed=st.integers(0, 1000), decimals=st.integers(1, 5), share=st.floats(0.1, 0.9))
def test_weighted_metrics_of_two_classes_are_those_of_scikit_learn(
    rows: Any, seed: Any, decimals: Any, share: Any
) -> None:
    truth, scores = binary(rows, seed, decimals=decimals, share=share)
    if truth.all():
        truth[0] = 0
    sample = Sample.of(BINARY, truth, scores)
    weights, truth, score = draw_weights(sample, 3, seed), sample.truth, sample.predictions["ours"]
    result = by_weights(sample, weights)
    for draw, weight in enumerate(weights):
        assert {name: values[draw] for name, values in result.items()} == pytest.approx(
            {
                "roc_auc": sk.roc_auc_score(truth, score, sample_weight=weight),
                "average_precision": sk.average_precision_score(truth, score, sample_weight=weight),
                "log_loss": sk.log_loss(truth, score, sample_weight=weight),
                "brier": sk.brier_score_loss(truth, score, sample_weight=weight),
            }
        )


@settings(deadline=None, max_examples=20)
@given(rows=st.integers(6, 60), seed=st.integers(0, 1000))
def test_weighted_metrics_of_three_classes_are_those_of_scikit_learn(rows: Any, seed: Any) -> None:
    truth, scores = three(rows, seed)
    sample = Sample.of(THREE, truth, scores)
    weights, truth, score = draw_weights(sample, 2, seed), sample.truth, sample.predictions["ours"]
    result = by_weights(sample, weights)
    for draw, weight in enumerate(weights):
        one = [(truth == label, score[:, label]) for label in range(3)]
        assert {name: values[draw] for name, values in result.items()} == pytest.approx(
            {
                "roc_auc": np.mean([sk.roc_auc_score(*item, sample_weight=weight) for item in one]),
                "average_precision": np.mean([sk.average_precision_score(*item, sample_weight=weight) for item in one]),
                "log_loss": sk.log_loss(truth, score, sample_weight=weight),
            }
        )


@settings(deadline=None, max_examples=20)
@given(rows=st.integers(3, 60), seed=st.integers(0, 1000), offset=st.sampled_from([0.0, 1e6]))
def test_weighted_metrics_of_a_regression_are_those_of_scikit_learn(rows: Any, seed: Any, offset: Any) -> None:
    rng = np.random.default_rng(seed)
    truth = offset + rng.normal(size=rows)
    score = truth + rng.normal(size=rows)
    sample = Sample.of(REGRESSION, truth, {"ours": score})
    weights = draw_weights(sample, 3, seed)
    result = by_weights(sample, weights)
    for draw, weight in enumerate(weights):
        if np.count_nonzero(weight) < 2:
            continue
        assert {name: values[draw] for name, values in result.items()} == pytest.approx(
            {
                "r2": sk.r2_score(truth, score, sample_weight=weight),
                "rmse": sk.root_mean_squared_error(truth, score, sample_weight=weight),
                "mae": sk.mean_absolute_error(truth, score, sample_weight=weight),
            },
            rel=1e-6,
            abs=1e-9,
        )


@settings(deadline=None, max_examples=30)
@given(
    truth=st.lists(st.integers(0, 2), min_size=1, max_size=40),
    seed=st.integers(0, 1000),
    target=st.sampled_from([BINARY, THREE]),
)
def test_metrics_of_counts_are_those_of_scikit_learn(truth: Any, seed: Any, target: TargetSchema) -> None:
    classes = 2 if target.binary else 3
    true = np.array(truth) % classes
    predicted = np.random.default_rng(seed).integers(0, classes, len(true))
    right = np.array([[np.sum((true == label) & (predicted == label)) for label in range(classes)]], dtype=float)
    answers = np.array([np.bincount(predicted, minlength=classes)], dtype=float)
    counts = confusion_metrics.LabelCounts(right, answers, np.bincount(true, minlength=classes), target.binary)
    average: dict[str, Any] = {"average": "binary" if target.binary else "macro", "zero_division": 0.0}
    names = ("recall", "precision", "f1", "accuracy", "balanced_accuracy")
    assert {name: getattr(confusion_metrics, name)(counts)[0] for name in names} == pytest.approx(
        {
            "recall": sk.recall_score(true, predicted, **average),
            "precision": sk.precision_score(true, predicted, **average),
            "f1": sk.f1_score(true, predicted, **average),
            "accuracy": sk.accuracy_score(true, predicted),
            "balanced_accuracy": sk.recall_score(
                true, predicted, labels=np.unique(true), average="macro", zero_division=0.0
            ),
        }
    )


@pytest.mark.parametrize("target", [BINARY, THREE, REGRESSION])
def test_bootstrap_draws_are_centred_and_reproducible(target: TargetSchema) -> None:
    if target is REGRESSION:
        rng = np.random.default_rng(4)
        truth = rng.normal(size=400)
        scores = {name: truth + rng.normal(size=400) for name in ("ours", "theirs")}
    else:
        truth, scores = binary(400, 4) if target is BINARY else three(400, 4)
    drawn = bootstrap_metrics(target, truth, scores, draws=600, seed=1)
    expected = compute_metrics(target, truth, scores["ours"])
    assert [*drawn] == [name for name, value in expected.items() if value is not None]
    for name, models in drawn.items():
        assert len(models["ours"]) == (GENERIC_DRAWS if name == "median_ae" else 600)
        result = percentile_interval(models["ours"], 0.99)
        assert result is not None
        assert result.low < expected[name] < result.high  # type: ignore[operator]  # those that are None are not drawn
        assert models["ours"].mean() == pytest.approx(expected[name], abs=0.5 * models["ours"].std())
    again = bootstrap_metrics(target, truth, scores, draws=600, seed=1)
    other = bootstrap_metrics(target, truth, scores, draws=600, seed=2)
    for name, models in drawn.items():
        assert (models["ours"] == again[name]["ours"]).all()
        assert (models["ours"] != other[name]["ours"]).any()


def test_bootstrap_is_paired_over_models() -> None:
    truth, scores = binary(300, 7)
    drawn = bootstrap_metrics(BINARY, truth, {"ours": scores["ours"], "theirs": scores["ours"]}, draws=200, seed=3)
    for models in drawn.values():
        assert (models["ours"] == models["theirs"]).all()
    drawn = bootstrap_metrics(
        BINARY, truth, {"ours": scores["ours"], "theirs": scores["ours"] * 0.9}, draws=500, seed=3
    )
    models = drawn["brier"]
    assert (models["ours"] - models["theirs"]).std() < 0.3 * models["ours"].std()


@pytest.mark.parametrize("rows", [200, 5000])
def test_weights_keep_the_size_of_every_class(rows: Any) -> None:
    truth, _ = binary(rows, 1)
    sample = Sample.of(BINARY, truth, {})
    weights = draw_weights(sample, 40, 5)
    for label in (0, 1):
        of_class = weights[:, sample.truth == label]
        assert of_class.sum(axis=1) == pytest.approx(np.full(40, (truth == label).sum()))
        assert of_class.var() == pytest.approx(1, abs=0.1)


def test_poisson_weights_give_the_same_spread_as_multinomial_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, scores = binary(900, 2, decimals=4)
    exact = bootstrap_metrics(BINARY, truth, scores, draws=4000, seed=1, metrics=["roc_auc", "log_loss"])
    monkeypatch.setattr(weights, "EXACT_ROWS", 0)
    poisson = bootstrap_metrics(BINARY, truth, scores, draws=4000, seed=1, metrics=["roc_auc", "log_loss"])
    for name in ("roc_auc", "log_loss"):
        one, two = (item[name]["ours"] - item[name]["theirs"] for item in (exact, poisson))
        assert two.std() == pytest.approx(one.std(), rel=0.08)
        assert two.mean() == pytest.approx(one.mean(), abs=0.1 * one.std())


def test_bootstrap_omits_undefined_metrics() -> None:
    truth, scores = np.zeros(50, dtype=np.int64), {"ours": np.linspace(0, 1, 50)}
    assert [*bootstrap_metrics(BINARY, truth, scores, draws=200, seed=1)] == [
        "accuracy",
        "precision",
        "log_loss",
        "brier",
    ]
    assert bootstrap_metrics(BINARY, truth, scores, draws=200, seed=1, metrics=["roc_auc"]) == {}
    constant = bootstrap_metrics(REGRESSION, np.ones(9), {"ours": np.zeros(9)}, draws=200, seed=1)
    assert [*constant] == ["rmse", "mae", "median_ae"]


def test_percentile_interval_is_the_middle_of_the_draws() -> None:
    result = percentile_interval(np.arange(1001) / 1000, 0.9)
    assert result is not None
    assert (result.low, result.high, result.confidence) == (0.05, 0.95, 0.9)
    assert percentile_interval(np.array([np.nan, 1.0, np.nan]), 0.9) == percentile_interval(np.array([1.0]), 0.9)
    assert percentile_interval(np.array([np.nan]), 0.9) is None
