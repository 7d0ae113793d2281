from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ml_pipelines.evaluation.comparison import compare_models
from ml_pipelines.evaluation.scorers import compute_metrics
from ml_pipelines.evaluation.target_schema import TargetSchema

REGRESSION = TargetSchema("regression")
TRUTH = np.random.default_rng(0).normal(size=300)
OPTIONS: dict[str, Any] = {"metric": "mae", "confidence": 0.9, "draws": 300, "seed": 1}


def compare(**predictions: np.ndarray) -> Any:
    measured = {model: compute_metrics(REGRESSION, TRUTH, values) for model, values in predictions.items()}
    return compare_models(REGRESSION, TRUTH, predictions, measured, **OPTIONS)


def test_difference_is_positive_where_the_winner_is_better() -> None:
    comparison = compare(winner=TRUTH + 0.1, champion=TRUTH + 0.5).comparison
    assert comparison.difference == pytest.approx(0.4)
    assert comparison.interval.low == pytest.approx(0.4)
    assert (comparison.rows, comparison.draws) == (300, 300)


def test_comparison_is_absent_without_a_champion() -> None:
    uncertainty = compare(winner=TRUTH + 0.1)
    assert uncertainty.comparison is None
    assert uncertainty.champion_intervals == {}
    assert set(uncertainty.intervals) == {"r2", "rmse", "mae", "median_ae"}
