r"""Metrics that are functions of sums over rows: the statistics of the resampling scheme `row_sums`.

A resample multiplies the terms of each row by its weight. With weights :math:`w_i` and terms :math:`t_i` a metric is
:math:`f(\sum_i w_i t_i)`, so that one matrix product serves all draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BRIER", "LOG_LOSS", "MAE", "R2", "RMSE", "RowSumStatistic", "absolute_errors"]

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class RowSumStatistic:
    """A metric as a function of sums over rows.

    Attributes:
        terms: from truth and predictions to the terms of each row, shape (rows, sums).
        value: from the sums of each draw, shape (draws, sums), and the number of rows to the metric, shape (draws,).
    """

    terms: Callable[[Array, Array], Array]
    value: Callable[[Array, int], Array]


def absolute_errors(truth: Array, predictions: Array) -> Array:
    """Return the absolute error of each row, shape (rows,)."""
    errors: Array = np.abs(truth - predictions)
    return errors


def _mean(sums: Array, rows: int) -> Array:
    # The terms are not negative; a sum of normal draws may be, by rounding.
    mean: Array = np.maximum(sums[:, 0], 0) / rows
    return mean


def _root_mean(sums: Array, rows: int) -> Array:
    root: Array = np.sqrt(_mean(sums, rows))
    return root


def _squared_errors(truth: Array, predictions: Array) -> Array:
    squares: Array = (truth - predictions) ** 2
    return squares


def _log_losses(truth: Array, probabilities: Array) -> Array:
    if probabilities.ndim == 1:
        likelihood = np.where(truth == 1, probabilities, 1 - probabilities)
    else:
        shares = probabilities / probabilities.sum(axis=1, keepdims=True)
        likelihood = shares[np.arange(len(truth)), truth]
    smallest = np.finfo(np.float64).eps  # the bound of scikit-learn's log_loss
    losses: Array = -np.log(np.clip(likelihood, smallest, 1 - smallest))
    return losses


def _r2_terms(truth: Array, predictions: Array) -> Array:
    centred = truth - truth.mean()  # keeps the digits of a target with a large mean
    return np.stack([_squared_errors(truth, predictions), centred, centred**2], axis=1)


def _r2(sums: Array, rows: int) -> Array:
    """1 - SS_res / SS_tot; NaN in a draw without variation of the target."""
    residual, linear, squares = np.maximum(sums[:, 0], 0), sums[:, 1], sums[:, 2]
    total = squares - linear**2 / rows
    unexplained = np.divide(residual, total, out=np.full_like(residual, np.nan), where=total > 0)
    return 1 - unexplained


def _column(terms: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    return lambda truth, predictions: terms(truth, predictions)[:, None]


LOG_LOSS = RowSumStatistic(_column(_log_losses), _mean)
BRIER = RowSumStatistic(_column(_squared_errors), _mean)
RMSE = RowSumStatistic(_column(_squared_errors), _root_mean)
MAE = RowSumStatistic(_column(absolute_errors), _mean)
R2 = RowSumStatistic(_r2_terms, _r2)
