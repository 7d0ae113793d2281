from __future__ import annotations

from typing import Any

import numpy as np

from ml_pipelines.evaluation.curves import CURVE_POINTS, curves_and_confusion
from ml_pipelines.evaluation.target_schema import TargetSchema

BINARY = TargetSchema("classification", ("no", "yes"), "yes")


def test_curves_have_a_bounded_number_of_points_and_keep_their_ends() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 5000)
    curves: Any = curves_and_confusion(BINARY, truth, rng.random(5000))["curves"]
    assert len(curves["roc"]["x"]) == CURVE_POINTS
    assert (curves["roc"]["x"][0], curves["roc"]["y"][-1]) == (0.0, 1.0)
    assert set(curves) == {"roc", "pr", "calibration"}


def test_threshold_itself_predicts_the_positive_label() -> None:
    confusion = curves_and_confusion(BINARY, np.array([1, 0]), np.array([0.5, 0.499]))["confusion"]
    assert confusion == {"labels": ["no", "yes"], "matrix": [[1, 0], [0, 1]]}


def test_curves_are_absent_with_a_single_label() -> None:
    assert curves_and_confusion(BINARY, np.ones(3, dtype=int), np.ones(3))["curves"] == {}


def test_residuals_of_a_regression_are_truth_minus_prediction() -> None:
    document: Any = curves_and_confusion(TargetSchema("regression"), np.array([1.0, 3.0]), np.array([0.0, 1.0]))
    assert document["confusion"] is None
    assert document["curves"]["residuals"]["mean"] == 1.5
    assert document["curves"]["residuals"]["y"] == [1.0, 2.0]
