from __future__ import annotations

import numpy as np
import pytest

from ml_pipelines.errors import ModelError
from ml_pipelines.evaluation.target_schema import (
    TargetSchema,
    dummy_predictions,
    encode_labels,
    predicted_labels,
    validate_predictions,
)

BINARY = TargetSchema("classification", ("no", "yes"), "yes")


def test_dummy_predictions_are_the_shares_of_the_classes() -> None:
    target = TargetSchema("classification", ("a", "b", "c"), unseen=("d",))
    score = dummy_predictions(target, {"target_summary": {"share": {"c": 0.2, "a": 0.5, "b": 0.3}}}, 2)
    assert score.tolist() == [[0.5, 0.3, 0.2, 0.0]] * 2


def test_encode_labels_accepts_booleans_and_floats() -> None:
    training = {"task": "classification", "classes": [False, True], "positive": True}
    assert encode_labels(TargetSchema.of(training, [True, False]), [True, False]).tolist() == [1, 0]
    training = {"task": "classification", "classes": [0, 1], "positive": 0}
    assert encode_labels(TargetSchema.of(training, [1.0, 0.0]), [1.0, 0.0]).tolist() == [0, 1]


def test_validate_predictions_refuses_another_shape() -> None:
    with pytest.raises(ModelError) as caught:
        validate_predictions(BINARY, np.zeros((4, 2)), 4)
    assert caught.value.what == "the model's predictions have the wrong shape"
    assert (caught.value.expected, caught.value.got) == ("shape (4,)", "shape (4, 2)")


def test_validate_predictions_adds_a_column_for_each_unseen_label() -> None:
    target = TargetSchema("classification", ("a", "b", "c"), unseen=("d",))
    assert validate_predictions(target, np.ones((2, 3)), 2).tolist() == [[1, 1, 1, 0]] * 2


def test_predicted_labels_are_positive_from_the_threshold_on() -> None:
    assert predicted_labels(BINARY, np.array([0.49, 0.5])).tolist() == [0, 1]
