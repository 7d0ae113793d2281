r"""Influence of rows on metrics of a ranking, and resamples of sums along these influences.

The derivatives of ROC-AUC by the weights of rows are DeLong's placement values (DeLong, DeLong and Clarke-Pearson
1988, https://doi.org/10.2307/2531595). Those of average precision follow from the same counts. The linear
approximation of a metric by its derivatives is the infinitesimal jackknife; see Efron 1982, *The Jackknife, the
Bootstrap and Other Resampling Plans*, chapter 6. The approximation error is of order :math:`1/n`, the noise
of order :math:`1/\sqrt n`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_pipelines.evaluation.resampling import BLOCK_CELLS, EXACT_ROWS, multinomial_weights, poisson_weights

__all__ = ["average_precision_influence", "linear_resamples", "roc_auc_influence"]

Array = NDArray[Any]

HEAVY_ROWS = 1000  # rows of a class with weights of their own, for any number of rows
BLOCK_ROWS = 2**13  # rows in memory at once


def roc_auc_influence(positives: Array, negatives: Array) -> tuple[Array, Array]:
    """Return the placement values of DeLong et al. (1988), equations 4 and 5, centred for the negative rows.

    Args:
        positives: ascending scores of the positive rows.
        negatives: ascending scores of the negative rows.
    """
    pairs = len(positives) * len(negatives)
    negatives_below, positives_below = _below(negatives, positives), _below(positives, negatives)
    return negatives_below / pairs, (positives_below.mean() - positives_below) / pairs


def _below(ascending: Array, scores: Array) -> Array:
    """How many are below each score; equal ones count by half."""
    below: Array = np.searchsorted(ascending, scores, side="left") + np.searchsorted(ascending, scores, side="right")
    return below / 2


def average_precision_influence(positives: Array, negatives: Array) -> tuple[Array, Array]:
    """Return the influence of each row on the mean over positive rows of true / (true + false).

    `true` and `false` count the rows with at least the same score. A further positive row has a precision of its own
    and raises that of every positive row with at most its score; a further negative row lowers these.

    Args:
        positives: ascending scores of the positive rows.
        negatives: ascending scores of the negative rows.
    """
    true = len(positives) - np.searchsorted(positives, positives, side="left")
    false = len(negatives) - np.searchsorted(negatives, positives, side="left")
    upto = np.searchsorted(positives, positives, side="right")
    raised, lowered = (np.concatenate([[0], np.cumsum(part / (true + false) ** 2)]) for part in (false, true))
    own = true / (true + false) + raised[upto]
    return own / len(positives), -lowered[np.searchsorted(positives, negatives, side="right")] / len(positives)


def linear_resamples(models: list[Array], bounds: list[tuple[int, int]], draws: int, rng: np.random.Generator) -> Array:
    """Return how far the sums of all columns are from those of all rows, in each draw.

    The rows of the greatest influence get weights. The sum of all others is normal by the central limit theorem.

    Args:
        models: the columns of each model, shape (rows, sums).
        bounds: first and last row of each class.
        draws: number of resamples.
        rng: random numbers.

    Returns:
        Shape (models, draws, sums).
    """
    width = models[0].shape[1]
    shifts = np.zeros((draws, len(models) * width))
    for first, last in bounds:
        rows = _Rows([columns[first:last] for columns in models])
        heavy, draw_weights = np.ones(last - first, dtype=bool), multinomial_weights
        if last - first > EXACT_ROWS:
            heavy, draw_weights = rows.heavy(), poisson_weights
            # Standard normal draws times R have the covariance R'R of the sum of the rows.
            root = rows.root(~heavy)
            shifts += rng.normal(size=(draws, len(root))) @ root
        columns = rows.centred(np.flatnonzero(heavy))
        step = max(1, BLOCK_CELLS // max(1, len(columns)))
        for start in range(0, draws, step):
            block = slice(start, min(start + step, draws))
            shifts[block] += (draw_weights(block.stop - start, len(columns), rng) - 1.0) @ columns
    return shifts.reshape(draws, len(models), width).swapaxes(0, 1)


class _Rows:
    """The columns of all models side by side, less their means; in blocks, since a copy would double the memory."""

    def __init__(self, models: list[Array]) -> None:
        self.models, self.means = models, [columns.mean(axis=0) for columns in models]

    def centred(self, at: Array) -> Array:
        return np.concatenate([part[at] - mean for part, mean in zip(self.models, self.means, strict=True)], axis=1)

    def blocks(self, at: Array) -> Iterator[Array]:
        return (self.centred(at[first : first + BLOCK_ROWS]) for first in range(0, len(at), BLOCK_ROWS))

    def heavy(self) -> Array:
        """Mask of the rows of the greatest influence on any sum, at most `HEAVY_ROWS` of them."""
        every = np.arange(len(self.models[0]))
        spread = np.sqrt(sum((block**2).sum(axis=0) for block in self.blocks(every)))
        scale = np.where(spread > 0, spread, 1)
        size = np.concatenate([np.abs(block / scale).max(axis=1) for block in self.blocks(every)])
        # A comparison with a value, because the order of equal rows in a sort depends on the processor.
        heavy: Array = size > np.partition(size, -HEAVY_ROWS)[-HEAVY_ROWS]
        return heavy

    def root(self, kept: Array) -> Array:
        """R of the QR decomposition of some rows, its diagonal not negative."""
        root: Array = self.centred(np.arange(0))
        for block in self.blocks(np.flatnonzero(kept)):
            root = np.asarray(np.linalg.qr(np.concatenate([root, block]), mode="r"))
        root[np.diag(root) < 0] *= -1
        return root
