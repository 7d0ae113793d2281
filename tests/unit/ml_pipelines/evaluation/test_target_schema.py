from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ml_pipelines.errors import ModelError
from ml_pipelines.evaluation.target_schema import (
    TargetSchema,
    constant_part,
    encode_labels,
    predicted_labels,
    validate_predictions,
)

BINARY = TargetSchema("classification", ("no", "yes"), "yes")


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


@pytest.mark.parametrize(
    ("target", "predictions", "constant"),
    [
        (BINARY, [0.2, 0.2, 0.2], "predictions"),
        (BINARY, [0.2, 0.2 + 1e-15, 0.2], "predictions"),
        (BINARY, [0.2, 0.3, 0.4], "labels"),
        (BINARY, [0.2, 0.3, 0.5], None),
        (TargetSchema("regression"), [1e9, 1e9 + 1e-7, 1e9], "predictions"),
        (TargetSchema("regression"), [0.0, 0.0], "predictions"),
        (TargetSchema("regression"), [0.0, 1e-9], None),
        (TargetSchema("classification", ("a", "b", "c")), [[0.5, 0.3, 0.2]] * 2, "predictions"),
        (TargetSchema("classification", ("a", "b", "c")), [[0.5, 0.3, 0.2], [0.5, 0.2, 0.3]], "labels"),
    ],
)
def test_constant_part_is_what_all_rows_have_in_common(target: TargetSchema, predictions: Any, constant: Any) -> None:
    assert constant_part(target, np.array(predictions)) == constant
