from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ml_pipelines.evaluation import permutation
from ml_pipelines.evaluation.dummy import constant_predictions, fit_dummy
from ml_pipelines.evaluation.permutation import chance_gain, permuted_values
from ml_pipelines.evaluation.scorers import compute_metrics
from ml_pipelines.evaluation.target_schema import TargetSchema
from ml_pipelines.spec.metric_table import METRICS

BINARY = TargetSchema("classification", ("no", "yes"), "yes")
MANY = TargetSchema("classification", ("a", "b", "c"))
NUMBER = TargetSchema("regression")


def noise(target: TargetSchema, rows: int, seed: int) -> tuple[Any, Any]:
    """Truth and predictions that are independent of it."""
    rng = np.random.default_rng(seed)
    if target is NUMBER:
        return np.exp(rng.normal(size=rows)), np.exp(0.5 * rng.normal(size=rows))
    truth = rng.permutation(np.arange(rows) % len(target.classes) ** 2 % len(target.classes))
    if target is BINARY:
        return truth, rng.random(rows).round(1)  # with ties
    return truth, rng.dirichlet(np.ones(3), rows)


@pytest.mark.parametrize("target", [BINARY, MANY, NUMBER], ids=["binary", "many", "number"])
def test_permuted_values_are_those_of_the_scorers(target: TargetSchema) -> None:
    truth, predictions = noise(target, 60, seed=1)
    for metric in METRICS.values():
        if metric.task != target.task or (metric.binary_only and not target.binary):
            continue
        values = permuted_values(target, truth, predictions, metric, 4, np.random.default_rng(2))
        rng = np.random.default_rng(2)
        permutations = [rng.permutation(truth) for _ in range(4)]
        expected = [compute_metrics(target, rows, predictions, [metric])[metric.name] for rows in permutations]
        assert values.tolist() == pytest.approx(expected), metric.name


@pytest.mark.parametrize(
    ("target", "name"),
    [(BINARY, "roc_auc"), (BINARY, "average_precision"), (BINARY, "f1"), (MANY, "accuracy"), (NUMBER, "mae")],
)
def test_noise_exceeds_the_gain_of_chance_as_rarely_as_promised(
    target: TargetSchema, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The law of a permutation test holds for a handful of rows, where a bootstrap is too optimistic."""
    monkeypatch.setattr(permutation, "MAX_RANK", 1)
    metric, exceeded, data_sets, rows = METRICS[name], 0, 300, 12
    for seed in range(data_sets):
        truth, predictions = noise(target, rows, seed)
        constant = constant_predictions(fit_dummy(target, truth, metric), rows)
        value, dummy = (
            compute_metrics(target, truth, answers, [metric])[name] or 0.0 for answers in (predictions, constant)
        )
        gain = value - dummy if metric.greater_is_better else dummy - value
        exceeded += gain > chance_gain(target, truth, predictions, metric, dummy=dummy, tail=0.1, seed=seed)
    assert exceeded <= 50  # 30 are expected; the probability of more than 50 is below 0.0002


def test_chance_needs_as_many_permutations_as_the_tail_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, predictions = noise(NUMBER, 20, seed=3)
    counts = []

    def values(*arguments: Any) -> Any:
        counts.append(arguments[4])
        return np.zeros(arguments[4])

    monkeypatch.setattr(permutation, "permuted_values", values)
    for rows, tail in ((20, 0.025), (20, 0.005), (20_000, 0.025), (1_000_000, 0.025)):
        answers = np.resize(predictions, rows)
        chance_gain(NUMBER, np.resize(truth, rows), answers, METRICS["mae"], dummy=1.0, tail=tail, seed=1)
    assert counts == [999, 4999, 199, 39]


def test_a_permutation_without_a_value_counts_against_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permutation, "permuted_values", lambda *_: np.full(39, np.nan))
    truth, predictions = noise(NUMBER, 20, seed=3)
    gain = chance_gain(NUMBER, truth, predictions, METRICS["r2"], dummy=0.0, tail=0.025, seed=1)
    assert gain == np.inf
