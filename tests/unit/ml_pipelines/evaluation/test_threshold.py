from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from ml_pipelines.evaluation import permutation
from ml_pipelines.evaluation.dummy import constant_predictions, fit_dummy
from ml_pipelines.evaluation.permutation import chance_gain
from ml_pipelines.evaluation.scorers import compute_metrics
from ml_pipelines.evaluation.target_schema import TargetSchema
from ml_pipelines.evaluation.threshold import tune_threshold
from ml_pipelines.spec.metric_table import METRICS
from ml_pipelines.spec.threshold import Threshold

BINARY = TargetSchema("classification", (0, 1), 1)
OBJECTIVES: tuple[dict[str, Any], ...] = (
    {"maximise": "f1"},
    {"maximise": "accuracy"},
    {"maximise": "balanced_accuracy"},
    {"minimise_cost": {"false_positive": 1, "false_negative": 5}},
    {"maximise": "recall", "at_least": {"precision": 0.6}},
    {"maximise": "f1", "at_least": {"recall": 0.5}},
)
ROWS = st.lists(st.tuples(st.booleans(), st.floats(0, 1) | st.integers(0, 4).map(lambda n: n / 4)), min_size=2)


def arrays(rows: list[tuple[bool, float]]) -> tuple[Any, Any]:
    truth, probabilities = zip(*rows, strict=True)
    return np.array(truth, dtype=np.int64), np.array(probabilities)


def measured(truth: Any, probabilities: Any, threshold: float, name: str) -> float:
    labels = (probabilities >= threshold).astype(int)
    if name == "cost":
        return -float(np.mean((labels > truth) * 1 + (labels < truth) * 5))
    options = {"zero_division": 0.0} if name in ("f1", "precision", "recall") else {}
    return float(getattr(metrics, f"{name}_score")(truth, labels, **options))


@given(ROWS, st.sampled_from(OBJECTIVES))
def test_no_threshold_is_better_on_the_rows(rows: list[tuple[bool, float]], declared: dict[str, Any]) -> None:
    truth, probabilities = arrays(rows)
    objective = Threshold.model_validate(declared)
    tuned = tune_threshold(truth, probabilities, objective)
    if tuned.problem:
        assert tuned.value == 0.5
        return
    name = objective.maximise or "cost"
    score = measured(truth, probabilities, tuned.value, name)
    assert abs(score) == pytest.approx(tuned.score)
    for threshold in (0.5, *np.linspace(0, 1, 21), *probabilities):
        if all(measured(truth, probabilities, threshold, key) >= low for key, low in objective.limits.items()):
            assert score >= measured(truth, probabilities, threshold, name) - 1e-9
    assert all(measured(truth, probabilities, tuned.value, key) >= low - 1e-9 for key, low in objective.limits.items())


@given(ROWS, st.sampled_from(OBJECTIVES), st.randoms())
def test_the_order_of_the_rows_has_no_effect(rows: list[Any], declared: dict[str, Any], random: Any) -> None:
    objective = Threshold.model_validate(declared)
    shuffled = random.sample(rows, len(rows))
    assert tune_threshold(*arrays(rows), objective) == tune_threshold(*arrays(shuffled), objective)


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [([0.1, 0.9], 0.5), ([0.1, 0.3], 0.2), ([0.7, 0.9], 0.8), ([0.2, 0.2, 0.5], 0.5)],
)
def test_the_nearest_threshold_to_a_half_is_selected_among_equals(probabilities: list[float], expected: float) -> None:
    truth = np.array([0] * (len(probabilities) - 1) + [1])
    tuned = tune_threshold(truth, np.array(probabilities), Threshold(maximise="f1"))
    assert tuned.value == pytest.approx(expected)


def test_a_cost_lowers_the_threshold() -> None:
    truth = np.array([0, 1, 0, 1])
    declared = Threshold.model_validate({"minimise_cost": {"false_positive": 1, "false_negative": 5}})
    tuned = tune_threshold(truth, np.array([0.1, 0.3, 0.6, 0.9]), declared)
    assert tuned.value == pytest.approx(0.2)
    assert (tuned.score, tuned.default_score) == (0.25, 1.5)
    assert tuned.objective == "mean cost, 1 a false positive and 5 a false negative"


@pytest.mark.parametrize(
    ("truth", "declared", "facts"),
    [
        ([1, 0, 0, 0], {"maximise": "recall", "at_least": {"precision": 0.9}}, ("precision of 0.9", "0.25")),
        ([0, 0, 0, 0], {"maximise": "f1"}, ("same label",)),
    ],
)
def test_a_target_that_is_not_reached_keeps_a_half(truth: list[int], declared: Any, facts: tuple[str, ...]) -> None:
    tuned = tune_threshold(np.array(truth), np.array([0.2, 0.4, 0.6, 0.8]), Threshold.model_validate(declared))
    assert tuned.value == 0.5
    assert tuned.problem is not None
    assert all(fact in tuned.problem for fact in facts)


@pytest.mark.parametrize("share", [0.5, 0.15])
def test_noise_exceeds_the_gain_of_chance_as_rarely_as_promised(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The threshold comes from other rows, so labels without information stay independent of those of the test rows."""
    monkeypatch.setattr(permutation, "MAX_RANK", 1)
    exceeded, data_sets, rows, f1 = 0, 300, 40, METRICS["f1"]
    for seed in range(data_sets):
        rng = np.random.default_rng(seed)
        truths, probabilities = (rng.random((2, rows)) < share).astype(np.int64), rng.random((2, rows))
        target = BINARY.with_threshold(tune_threshold(truths[0], probabilities[0], Threshold(maximise="f1")).value)
        constant = constant_predictions(fit_dummy(BINARY, truths[0], f1), rows)
        dummy = compute_metrics(BINARY, truths[1], constant, [f1])["f1"] or 0.0
        gain = (compute_metrics(target, truths[1], probabilities[1], [f1])["f1"] or 0.0) - dummy
        exceeded += gain > chance_gain(target, truths[1], probabilities[1], f1, dummy=dummy, tail=0.1, seed=seed)
    assert exceeded <= 50  # 30 are expected; the probability of more than 50 is below 0.0002


def test_a_threshold_between_single_precision_numbers_separates_them() -> None:
    low = np.float32(0.3)
    high = np.nextafter(low, np.float32(1))
    tuned = tune_threshold(np.array([0, 1]), np.array([low, high], dtype=np.float64), Threshold(maximise="f1"))
    assert (np.array([low, high]) >= tuned.value).tolist() == [False, True]
