from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_pipelines.errors import ModelError
from ml_pipelines.evaluation.curves import curves_and_confusion
from ml_pipelines.evaluation.scorers import compute_metrics
from ml_pipelines.evaluation.target_schema import TargetSchema, dummy_predictions, encode_labels, validate_predictions

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
def test_whatever_the_rows_metrics_are_finite_or_none_and_everything_is_json(case: Any) -> None:
    target, truth, score = case
    found = compute_metrics(target, truth, score)
    assert all(value is None or (type(value) is float and math.isfinite(value)) for value in found.values())
    json.dumps({**found, **curves_and_confusion(target, truth, score)}, allow_nan=False)


@settings(deadline=None, max_examples=40)
@given(scored(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(case: Any, random: Any) -> None:
    target, truth, score = case
    order = list(range(len(truth)))
    random.shuffle(order)
    before, after = compute_metrics(target, truth, score), compute_metrics(target, truth[order], score[order])
    for name, value in before.items():
        assert after[name] == (None if value is None else pytest.approx(value))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(["no", "yes"]), min_size=1), st.floats(0.01, 0.99))
def test_a_dummy_ranks_nothing(labels: list[str], share: float) -> None:
    truth = encode_labels(BINARY, labels)
    score = dummy_predictions(BINARY, {"target_summary": {"share": {"yes": share, "no": 1 - share}}}, len(labels))
    assert compute_metrics(BINARY, truth, score)["roc_auc"] in (None, 0.5)


def test_a_dummy_of_many_classes_gives_their_shares() -> None:
    target = TargetSchema("classification", ("a", "b", "c"), unseen=("d",))
    score = dummy_predictions(target, {"target_summary": {"share": {"c": 0.2, "a": 0.5, "b": 0.3}}}, 2)
    assert score.tolist() == [[0.5, 0.3, 0.2, 0.0]] * 2


def test_labels_are_recognised_whatever_their_type() -> None:
    training = {"task": "classification", "classes": [False, True], "positive": True}
    assert encode_labels(TargetSchema.of(training, [True, False]), [True, False]).tolist() == [1, 0]
    training = {"task": "classification", "classes": [0, 1], "positive": 0}
    assert encode_labels(TargetSchema.of(training, [1.0, 0.0]), [1.0, 0.0]).tolist() == [0, 1]


def test_the_threshold_itself_counts_as_a_hit() -> None:
    confusion: Any = curves_and_confusion(BINARY, np.array([1, 0]), np.array([0.5, 0.499]))["confusion"]
    assert confusion == {"labels": ["no", "yes"], "matrix": [[1, 0], [0, 1]]}


def test_a_constant_target_has_no_r2() -> None:
    found = compute_metrics(NUMBER, np.ones(3), np.array([1.0, 2.0, 3.0]))
    assert found["r2"] is None
    assert found["mae"] == 1.0


def test_a_score_of_another_shape_is_an_error() -> None:
    with pytest.raises(ModelError) as caught:
        validate_predictions(BINARY, np.zeros((4, 2)), 4)
    assert caught.value.what == "the model's predictions have the wrong shape"
    assert (caught.value.expected, caught.value.got) == ("shape (4,)", "shape (4, 2)")
