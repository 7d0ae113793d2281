from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from ml_pipelines.evaluation.ranking_metrics import (
    AVERAGE_PRECISION,
    ROC_AUC,
    Ranking,
    WeightedRanking,
    influence_values,
)


@settings(deadline=None, max_examples=40)
@given(rows=st.integers(4, 40), seed=st.integers(0, 1000), decimals=st.integers(1, 3))
def test_unweighted_statistics_are_those_of_scikit_learn(rows: int, seed: int, decimals: int) -> None:
    rng = np.random.default_rng(seed)
    positive, scores = rng.permutation(np.arange(rows) < rng.integers(1, rows)), rng.random(rows).round(decimals)
    ranking = WeightedRanking(Ranking(positive, scores), np.ones((1, rows)))
    assert ROC_AUC.value(ranking)[0] == pytest.approx(sk.roc_auc_score(positive, scores))
    assert AVERAGE_PRECISION.value(ranking)[0] == pytest.approx(sk.average_precision_score(positive, scores))


def test_influence_values_sum_to_the_statistics() -> None:
    positive, scores = np.array([True, False, True, False]), np.array([0.9, 0.8, 0.7, 0.1])
    sums = influence_values(positive, scores, [ROC_AUC, AVERAGE_PRECISION]).sum(axis=0)
    assert sums == pytest.approx([0.75, (1 + 2 / 3) / 2])
