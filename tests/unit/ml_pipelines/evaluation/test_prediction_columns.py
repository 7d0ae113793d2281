from __future__ import annotations

import numpy as np

from ml_pipelines.evaluation.prediction_columns import prediction_columns
from ml_pipelines.evaluation.target_schema import TargetSchema


def columns(target: TargetSchema, score: list[object]) -> dict[str, list[object]]:
    return {series.name: series.to_list() for series in prediction_columns(target, np.array(score, dtype=np.float64))}


def test_a_regression_has_one_column() -> None:
    assert columns(TargetSchema("regression"), [1.5, 2.0]) == {"prediction": [1.5, 2.0]}


def test_two_labels_have_the_probability_of_the_positive_one() -> None:
    target = TargetSchema("classification", classes=("no", "yes"), positive="no", threshold=0.7)
    assert columns(target, [0.6, 0.7]) == {"prediction": ["yes", "no"], "probability": [0.6, 0.7]}


def test_several_labels_have_a_probability_each() -> None:
    target = TargetSchema("classification", classes=("a", "b", "c"))
    assert columns(target, [[0.1, 0.7, 0.2]]) == {
        "prediction": ["b"],
        "probability_a": [0.1],
        "probability_b": [0.7],
        "probability_c": [0.2],
    }
