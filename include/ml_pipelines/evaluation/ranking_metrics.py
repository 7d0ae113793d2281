"""Metrics of a ranking of positive among negative rows: the statistics of the resampling scheme `ranking`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_pipelines.evaluation.resampling import EXACT_ROWS
from ml_pipelines.evaluation.row_influence import average_precision_influence, roc_auc_influence

__all__ = [
    "AVERAGE_PRECISION",
    "ROC_AUC",
    "Ranking",
    "RankingStatistic",
    "WeightedRanking",
    "influence_values",
    "mean_of_defined",
]

Array = NDArray[Any]


class Ranking:
    """Positive rows among negative ones, sorted once for all draws.

    Attributes:
        positives: positions of the positive rows, from the highest score down.
        negatives: positions of the negative rows, from the highest score down.
        above: number of negative rows with a higher score, for each positive row.
        upto: number of negative rows with at least the same score.
        last_equal: index of the last positive row with the same score.
    """

    def __init__(self, positive: Array, scores: Array) -> None:
        """Sort the rows.

        Args:
            positive: whether each row is positive, shape (rows,); some are and some are not.
            scores: shape (rows,).
        """
        groups = np.flatnonzero(positive), np.flatnonzero(~positive)
        self.positives, self.negatives = (group[np.argsort(-scores[group], kind="stable")] for group in groups)
        falling, others = -scores[self.positives], -scores[self.negatives]
        self.above = np.searchsorted(others, falling, side="left")
        self.upto = np.searchsorted(others, falling, side="right")
        self.last_equal = np.searchsorted(falling, falling, side="right") - 1


class WeightedRanking:
    """A ranking whose rows have weights; sums are computed when a metric asks for them.

    Attributes:
        weight: of each positive row, from the highest score down, shape (draws, positives).
        positives: weight of the positive rows, shape (draws,).
    """

    def __init__(self, ranking: Ranking, weights: Array) -> None:
        """Take the weights of shape (draws, rows)."""
        self._ranking, self._weights = ranking, weights
        self.weight = weights.take(ranking.positives, axis=1)
        self.positives = self.weight.sum(axis=1)

    @functools.cached_property
    def pairs(self) -> Array:
        """Weight of the pairs of a positive and a negative row, shape (draws,)."""
        pairs: Array = self.positives * self._false[:, -1]
        return pairs

    @functools.cached_property
    def true(self) -> Array:
        """Weight of the positive rows with at least the same score, shape (draws, positives)."""
        return np.cumsum(self.weight, axis=1).take(self._ranking.last_equal, axis=1)

    @functools.cached_property
    def false_above(self) -> Array:
        """Weight of the negative rows with a higher score, shape (draws, positives)."""
        return self._false.take(self._ranking.above, axis=1)

    @functools.cached_property
    def false_upto(self) -> Array:
        """Weight of the negative rows with at least the same score, shape (draws, positives)."""
        return self._false.take(self._ranking.upto, axis=1)

    @functools.cached_property
    def _false(self) -> Array:
        sums = np.zeros((len(self._weights), len(self._ranking.negatives) + 1))
        np.cumsum(self._weights.take(self._ranking.negatives, axis=1), axis=1, out=sums[:, 1:])
        return sums


@dataclass(frozen=True, slots=True)
class RankingStatistic:
    """A metric of a ranking.

    Attributes:
        value: from a weighted ranking to the metric of each draw, shape (draws,).
        influence: from the ascending scores of positive and negative rows to the influence of each.
        min_class_rows: a linear approximation needs more rows than this of every class.
    """

    value: Callable[[WeightedRanking], Array]
    influence: Callable[[Array, Array], tuple[Array, Array]]
    min_class_rows: int = 0


def _roc_auc(ranking: WeightedRanking) -> Array:
    """Mann-Whitney: the share of pairs in which the positive row ranks above the negative one, ties by half."""
    lost = (ranking.false_upto + ranking.false_above) / 2
    return 1 - _ratio(np.einsum("ij,ij->i", ranking.weight, lost), ranking.pairs)


def _average_precision(ranking: WeightedRanking) -> Array:
    """The mean precision at each positive row."""
    true, false = ranking.true, ranking.false_upto
    precision = np.divide(true, true + false, out=np.zeros_like(true), where=true > 0)
    sums = np.einsum("ij,ij->i", ranking.weight, precision)
    return _ratio(np.where(ranking.pairs > 0, sums, np.nan), ranking.positives)


def _ratio(part: Array, whole: Array) -> Array:
    """NaN in a draw without positive or without negative rows."""
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


def mean_of_defined(values: Sequence[Array]) -> Array:
    """Return the mean over the rankings of the labels that occur in a draw, shape (draws,); NaN if none is defined.

    Args:
        values: a metric of the ranking of each label, shape (draws,) each; NaN where the label does not occur.
    """
    stacked = np.stack(values)
    defined = np.isfinite(stacked)
    return _ratio(np.where(defined, stacked, 0.0).sum(axis=0), defined.sum(axis=0))


ROC_AUC = RankingStatistic(_roc_auc, roc_auc_influence)
# With few rows of a class, average precision is curved: its first positive rows count by more than a derivative.
AVERAGE_PRECISION = RankingStatistic(_average_precision, average_precision_influence, min_class_rows=EXACT_ROWS)


def influence_values(positive: Array, scores: Array, statistics: Sequence[RankingStatistic]) -> Array:
    """Return columns whose sums are the metrics, and whose differences within a class are their derivatives.

    Args:
        positive: whether each row is positive, shape (rows,); some are and some are not.
        scores: shape (rows,).
        statistics: the metrics.

    Returns:
        Shape (rows, statistics).
    """
    positives, negatives = (
        rows[np.argsort(scores[rows], kind="stable")] for rows in (np.flatnonzero(positive), np.flatnonzero(~positive))
    )
    values = np.empty((len(scores), len(statistics)))
    for column, statistic in zip(values.T, statistics, strict=True):
        column[positives], column[negatives] = statistic.influence(scores[positives], scores[negatives])
    return values
