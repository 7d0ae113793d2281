from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_pipelines.errors import UserCodeError
from ml_pipelines.evaluation.comparison import compare_models
from ml_pipelines.evaluation.curves import curves_and_confusion
from ml_pipelines.evaluation.scorers import compute_metrics
from ml_pipelines.evaluation.target_schema import TargetSchema, encode_labels
from ml_pipelines.spec.code_packages import PACKAGES_VARIABLE
from ml_pipelines.spec.metric_table import get_metric

BINARY = TargetSchema("classification", ("no", "yes"), "yes")
MANY = TargetSchema("classification", (0, 1, 2))
NUMBER = TargetSchema("regression")

rows = st.integers(1, 30)
shares = st.floats(0, 1)


@st.composite
def scored(draw: st.DrawFn) -> tuple[TargetSchema, Any, Any]:
    """A problem, truth and any score that a model may give."""
    target = draw(st.sampled_from([BINARY, MANY, NUMBER]))
    count = draw(rows)
    if target is NUMBER:
        numbers = st.lists(st.integers(-(10**6), 10**6).map(float), min_size=count, max_size=count)
        return target, np.array(draw(numbers)), np.array(draw(numbers))
    truth = np.array(draw(st.lists(st.integers(0, len(target.classes) - 1), min_size=count, max_size=count)))
    if target is BINARY:
        return target, truth, np.array(draw(st.lists(shares, min_size=count, max_size=count)))
    weights = st.lists(st.floats(0.001, 1), min_size=3, max_size=3)
    matrix = np.array(draw(st.lists(weights, min_size=count, max_size=count)))
    return target, truth, matrix / matrix.sum(axis=1, keepdims=True)


@settings(deadline=None, max_examples=40)
@given(scored())
def test_compute_metrics_returns_finite_numbers_or_none(case: Any) -> None:
    target, truth, score = case
    result = compute_metrics(target, truth, score)
    assert all(value is None or (type(value) is float and math.isfinite(value)) for value in result.values())
    json.dumps({**result, **curves_and_confusion(target, truth, score)}, allow_nan=False)


@settings(deadline=None, max_examples=40)
@given(scored(), st.randoms(use_true_random=False))
def test_compute_metrics_does_not_depend_on_the_order_of_rows(case: Any, random: Any) -> None:
    target, truth, score = case
    order = list(range(len(truth)))
    random.shuffle(order)
    before, after = compute_metrics(target, truth, score), compute_metrics(target, truth[order], score[order])
    for name, value in before.items():
        assert after[name] == (None if value is None else pytest.approx(value))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(["no", "yes"]), min_size=1), st.floats(0.01, 0.99))
def test_constant_prediction_has_a_roc_auc_of_one_half(labels: list[str], share: float) -> None:
    truth = encode_labels(BINARY, labels)
    assert compute_metrics(BINARY, truth, np.full(len(labels), share))["roc_auc"] in (None, 0.5)


def test_r2_is_none_for_a_constant_target() -> None:
    result = compute_metrics(NUMBER, np.ones(3), np.array([1.0, 2.0, 3.0]))
    assert result["r2"] is None
    assert result["mae"] == 1.0


PROFIT = """
import numpy as np

def profit(truth, predicted):
    return np.array([[0.0, -10.0], [0.0, 40.0]])[truth, predicted].mean()

def wrong(truth, predicted):
    return "much"

def undefined(truth, predicted):
    return float("nan")

def failing(truth, predicted):
    return truth / 0 + missing
"""


@pytest.fixture
def shop_gain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop_gain.py").write_text(PROFIT)
    monkeypatch.setenv(PACKAGES_VARIABLE, "shop_gain")
    monkeypatch.syspath_prepend(str(tmp_path))


def measure(function: str) -> float | None:
    metric = get_metric(f"shop_gain:{function} higher labels")
    truth, predictions = np.array([0, 0, 1, 1]), np.array([0.2, 0.8, 0.9, 0.3])
    return compute_metrics(BINARY, truth, predictions, [metric])[metric.name]


def test_user_function_is_a_metric_with_intervals(shop_gain: None) -> None:
    assert measure("profit") == 7.5
    assert measure("undefined") is None
    name = "shop_gain:profit higher labels"
    truth = np.repeat([0, 1], 50)
    predictions = {"winner": np.where(np.arange(100) % 10 == 0, 0.9, truth * 0.8), "champion": np.full(100, 0.9)}
    measured = {
        model: compute_metrics(BINARY, truth, values, [get_metric(name)]) for model, values in predictions.items()
    }
    result = compare_models(
        BINARY, truth, predictions, measured, metric=name, confidence=0.95, draws=200, seed=1
    ).comparison
    assert result is not None
    assert result.difference == 4.5
    assert result.interval is not None
    assert 0 < result.interval.low < 4.5 < result.interval.high


@pytest.mark.parametrize(("function", "what"), [("wrong", "no number"), ("failing", "shop_gain.py:14: NameError")])
def test_other_results_of_a_user_function_are_one_error(shop_gain: None, function: str, what: str) -> None:
    with np.errstate(all="ignore"), pytest.raises(UserCodeError) as caught:
        measure(function)
    assert what in caught.value.what
