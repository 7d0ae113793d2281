from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_pipelines.evaluation.curves import curves_and_confusion
from ml_pipelines.evaluation.scorers import compute_metrics
from ml_pipelines.evaluation.target_schema import TargetSchema, dummy_predictions, encode_labels

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
def test_dummy_baseline_has_a_roc_auc_of_one_half(labels: list[str], share: float) -> None:
    truth = encode_labels(BINARY, labels)
    score = dummy_predictions(BINARY, {"target_summary": {"share": {"yes": share, "no": 1 - share}}}, len(labels))
    assert compute_metrics(BINARY, truth, score)["roc_auc"] in (None, 0.5)


def test_r2_is_none_for_a_constant_target() -> None:
    result = compute_metrics(NUMBER, np.ones(3), np.array([1.0, 2.0, 3.0]))
    assert result["r2"] is None
    assert result["mae"] == 1.0
