from __future__ import annotations

import numpy as np
import pytest

from ml_pipelines.evaluation.resampling import EXACT_ROWS, multinomial_weights, poisson_weights, weight_blocks


def test_multinomial_weights_are_counts_that_sum_to_the_rows() -> None:
    weights = multinomial_weights(200, 30, np.random.default_rng(0))
    assert weights.shape == (200, 30)
    assert (weights.sum(axis=1) == 30).all()
    assert weights.var() == pytest.approx(1 - 1 / 30, abs=0.1)


def test_poisson_weights_have_mean_and_variance_one() -> None:
    weights = poisson_weights(500, 400, np.random.default_rng(0))
    assert weights.mean() == pytest.approx(1, abs=0.01)
    assert weights.var() == pytest.approx(1, abs=0.02)
    assert (weights == 0).mean() == pytest.approx(np.exp(-1), abs=0.005)


def test_weight_blocks_keep_the_size_of_small_and_large_classes() -> None:
    bounds = [(0, 20), (20, 20 + 3 * EXACT_ROWS)]
    blocks = list(weight_blocks(bounds, 100, np.random.default_rng(0)))
    weights = np.concatenate(blocks)
    assert len(blocks) > 1
    assert weights.shape == (100, bounds[-1][1])
    for first, last in bounds:
        np.testing.assert_allclose(weights[:, first:last].sum(axis=1), last - first)
