from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from ml_pipelines.evaluation.row_sum_metrics import BRIER, LOG_LOSS, MAE, R2, RMSE, RowSumStatistic, absolute_errors

RNG = np.random.default_rng(0)
TRUTH, PREDICTED = RNG.normal(1e6, 1, 50), RNG.normal(1e6, 1, 50)
LABELS, PROBABILITIES = RNG.integers(0, 2, 50), RNG.random(50)
CASES: dict[str, tuple[RowSumStatistic, Any, Any, Any]] = {
    "log loss": (LOG_LOSS, sk.log_loss, LABELS, PROBABILITIES),
    "brier": (BRIER, sk.brier_score_loss, LABELS, PROBABILITIES),
    "rmse": (RMSE, sk.root_mean_squared_error, TRUTH, PREDICTED),
    "mae": (MAE, sk.mean_absolute_error, TRUTH, PREDICTED),
    "r2": (R2, sk.r2_score, TRUTH, PREDICTED),
}


@pytest.mark.parametrize("case", CASES)
def test_statistic_of_all_rows_is_that_of_scikit_learn(case: str) -> None:
    statistic, scorer, truth, predictions = CASES[case]
    sums = statistic.terms(truth, predictions).sum(axis=0, keepdims=True)
    assert statistic.value(sums, len(truth))[0] == pytest.approx(scorer(truth, predictions), rel=1e-9)


def test_r2_is_nan_in_a_draw_without_variation() -> None:
    assert np.isnan(R2.value(np.array([[1.0, 0.0, 0.0]]), 3)).all()


def test_absolute_errors_are_by_row() -> None:
    assert absolute_errors(np.array([1.0, 2.0]), np.array([3.0, 1.0])).tolist() == [2.0, 1.0]
