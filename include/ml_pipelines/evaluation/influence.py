"""What each row adds to a metric of the ranking: its influence, to first order.

The row-by-row derivatives of ROC-AUC are DeLong's placement values (DeLong, DeLong and Clarke-Pearson 1988). Those of
average precision follow from the same counts, of the rows that are at least as high as each hit. A metric that moves
along its derivatives is the linear bootstrap, or infinitesimal jackknife (Efron 1982); what it leaves out is of the
order of one over the number of rows, where the noise is of the order of one over its square root.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_pipelines.evaluation.resampling import BLOCK_CELLS, EXACT_ROWS, multinomial_weights, poisson_weights

__all__ = ["RANKING_METRICS", "influence_values", "linear_resamples"]

Array = NDArray[Any]

RANKING_METRICS = ("roc_auc", "average_precision")
HEAVY_ROWS = 1000  # of a class, drawn one by one whatever the number of rows
BLOCK_ROWS = 2**13  # that are held at once


def influence_values(hit: Array, score: Array, ranked: list[str]) -> Array:
    """Columns whose sum is the metric, and whose differences within a class are the derivatives by the rows' weights.

    Args:
        hit: is this row one of those that belong on top? Shape (rows,), some are and some are not.
        score: shape (rows,).
        ranked: of `RANKED`.

    Returns:
        Shape (rows, metrics).
    """
    hits, others = (rows[np.argsort(score[rows], kind="stable")] for rows in map(np.flatnonzero, (hit, ~hit)))
    ours, theirs = score[hits], score[others]
    found = np.empty((len(score), len(ranked)))
    for column, metric in zip(found.T, ranked, strict=True):
        column[hits], column[others] = (_roc_auc if metric == "roc_auc" else _average_precision)(ours, theirs)
    return found


def _roc_auc(hits: Array, others: Array) -> tuple[Array, Array]:
    """From the scores of both, rising: the share of the others below a hit, and of the hits above one of the others."""
    pairs = len(hits) * len(others)
    below, beneath = _below(others, hits), _below(hits, others)
    return below / pairs, (beneath.mean() - beneath) / pairs


def _below(rising: Array, scores: Array) -> Array:
    """How many are below each score, those of the same score by half."""
    below: Array = np.searchsorted(rising, scores, side="left") + np.searchsorted(rising, scores, side="right")
    return below / 2


def _average_precision(hits: Array, others: Array) -> tuple[Array, Array]:
    """The mean over hits of true / (true + false), the rows that are at least as high as it.

    A further hit has a precision of its own and raises that of every hit below or beside it; another row lowers these.
    """
    true = len(hits) - np.searchsorted(hits, hits, side="left")
    false = len(others) - np.searchsorted(others, hits, side="left")
    upto = np.searchsorted(hits, hits, side="right")
    raised, lowered = (np.concatenate([[0], np.cumsum(part / (true + false) ** 2)]) for part in (false, true))
    ours = true / (true + false) + raised[upto]
    return ours / len(hits), -lowered[np.searchsorted(hits, others, side="right")] / len(hits)


def linear_resamples(models: list[Array], bounds: list[tuple[int, int]], draws: int, rng: np.random.Generator) -> Array:
    """How far the sums of all columns are from those of the whole in each draw.

    Args:
        models: the columns of each, shape (rows, sums).
        bounds: where each class of rows begins and ends.
        draws: how many.
        rng: draws.

    Returns:
        Shape (models, draws, sums).
    """
    width = models[0].shape[1]
    moved = np.zeros((draws, len(models) * width))
    for first, last in bounds:
        rows = _Rows([columns[first:last] for columns in models])
        apart, draw = np.ones(last - first, dtype=bool), multinomial_weights
        if last - first > EXACT_ROWS:
            apart, draw = rows.heavy(), poisson_weights
            # Normal draws times this root have the covariance of the rows' sum.
            root = rows.root(~apart)
            moved += rng.normal(size=(draws, len(root))) @ root
        each = rows.centred(np.flatnonzero(apart))
        step = max(1, BLOCK_CELLS // max(1, len(each)))
        for at in range(0, draws, step):
            block = slice(at, min(at + step, draws))
            moved[block] += (draw(block.stop - at, len(each), rng) - 1.0) @ each
    return moved.reshape(draws, len(models), width).swapaxes(0, 1)


class _Rows:
    """The columns of all models side by side, less their means; never all rows at once, which would double them."""

    def __init__(self, models: list[Array]) -> None:
        self.models, self.means = models, [columns.mean(axis=0) for columns in models]

    def centred(self, at: Array) -> Array:
        return np.concatenate([part[at] - mean for part, mean in zip(self.models, self.means, strict=True)], axis=1)

    def blocks(self, at: Array) -> Iterator[Array]:
        return (self.centred(at[first : first + BLOCK_ROWS]) for first in range(0, len(at), BLOCK_ROWS))

    def heavy(self) -> Array:
        """Which rows move a sum the most, at most `HEAVY_ROWS` of them."""
        every = np.arange(len(self.models[0]))
        spread = np.sqrt(sum((block**2).sum(axis=0) for block in self.blocks(every)))
        scale = np.where(spread > 0, spread, 1)
        size = np.concatenate([np.abs(block / scale).max(axis=1) for block in self.blocks(every)])
        # Compared with a value, as which of equal rows a sort puts first depends on the processor.
        heavy: Array = size > np.partition(size, -HEAVY_ROWS)[-HEAVY_ROWS]
        return heavy

    def root(self, kept: Array) -> Array:
        """R of the QR decomposition of some rows, its diagonal not negative."""
        root: Array = self.centred(np.arange(0))
        for block in self.blocks(np.flatnonzero(kept)):
            root = np.asarray(np.linalg.qr(np.concatenate([root, block]), mode="r"))
        root[np.diag(root) < 0] *= -1
        return root
