from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ml_pipelines.errors import DataError, ModelError
from ml_pipelines.evaluation.held_out_predictions import (
    predict_held_out,
    predictions_table,
    read_predictions,
    require_two_labels,
    tune_held_out,
)
from ml_pipelines.evaluation.target_schema import TargetSchema
from ml_pipelines.spec.threshold import Threshold

F1 = Threshold(maximise="f1")
BINARY = TargetSchema("classification", (0, 1), 1)


def test_a_threshold_needs_two_labels() -> None:
    require_two_labels(F1, "label", 2)
    require_two_labels(None, "label", 3)
    with pytest.raises(DataError) as error:
        require_two_labels(F1, "label", 3)
    assert error.value.where == "threshold"
    assert "3 labels" in str(error.value)


def test_a_candidate_needs_validation_rows() -> None:
    with pytest.raises(DataError, match="no validation rows"):
        predict_held_out(None, {}, pl.LazyFrame({"label": []}), label="label")


def test_without_a_declaration_there_is_no_threshold() -> None:
    assert tune_held_out(BINARY, np.array([0, 1]), np.array([0.2, 0.4]), None) is None


def test_the_threshold_is_that_of_the_predictions() -> None:
    tuned = tune_held_out(BINARY, np.array([0, 1, 1]), np.array([0.1, 0.3, 0.4]), F1)
    assert tuned is not None
    assert 0.1 < tuned.value <= 0.3


@given(arrays.arrays(np.float64, st.integers(1, 20), elements=st.floats(0, 1)))
def test_a_table_keeps_every_digit(predictions: np.ndarray) -> None:
    again = read_predictions(BINARY, predictions_table(predictions), len(predictions))
    assert again.tobytes() == predictions.tobytes()


def test_a_table_has_a_column_for_each_class_and_zeros_for_an_unseen_label() -> None:
    target = TargetSchema("classification", ("a", "b", "c"), None, ("d",))
    shares = np.array([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    again = read_predictions(target, predictions_table(shares), 2)
    assert again.tolist() == [[0.2, 0.3, 0.5, 0.0], [1.0, 0.0, 0.0, 0.0]]


def test_predictions_of_other_rows_are_an_error() -> None:
    with pytest.raises(ModelError, match="wrong shape"):
        read_predictions(BINARY, predictions_table(np.array([0.5, 0.5])), 3)
