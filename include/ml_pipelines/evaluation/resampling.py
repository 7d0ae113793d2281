"""Weights of rows in resamples: how often each row occurs, with the size of every class kept.

A class of at most :data:`EXACT_ROWS` rows is drawn with replacement (Efron 1979,
https://doi.org/10.1214/aos/1176344552): its weights are multinomial. In a larger class each weight is drawn from a
Poisson distribution of mean 1, and all are scaled to the size of the class. This Poisson bootstrap (Hanley and
MacGibbon 2006, https://doi.org/10.1016/j.cmpb.2006.04.006) is the same in the limit, and needs no random row numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK_CELLS", "EXACT_ROWS", "multinomial_weights", "poisson_weights", "weight_blocks"]

Array = NDArray[Any]

EXACT_ROWS = 1000  # largest class with multinomial weights
BLOCK_CELLS = 2**17  # rows times draws in memory at once: 1 MB an array, which stays in the processor's cache


def weight_blocks(bounds: list[tuple[int, int]], draws: int, rng: np.random.Generator) -> Iterator[Array]:
    """Yield blocks of weights, shape (draws of the block, rows). The weights of a class sum to its number of rows.

    Args:
        bounds: first and last row of each class.
        draws: number of resamples over all blocks.
        rng: random numbers.
    """
    rows = bounds[-1][1]
    step = max(1, BLOCK_CELLS // rows)
    for start in range(0, draws, step):
        block = np.empty((min(step, draws - start), rows))
        for first, last in bounds:
            draw = multinomial_weights if last - first <= EXACT_ROWS else _scaled
            block[:, first:last] = draw(len(block), last - first, rng)
        yield block


def multinomial_weights(draws: int, rows: int, rng: np.random.Generator) -> Array:
    """Return the counts of rows drawn with replacement, shape (draws, rows)."""
    numbers = rng.integers(0, rows, (draws, rows)) + rows * np.arange(draws)[:, None]
    return np.bincount(numbers.ravel(), minlength=draws * rows).reshape(draws, rows)


def _scaled(draws: int, rows: int, rng: np.random.Generator) -> Array:
    weights = poisson_weights(draws, rows, rng)
    weights *= rows / weights.sum(axis=1, keepdims=True)
    return weights


def poisson_weights(draws: int, rows: int, rng: np.random.Generator) -> Array:
    """Return independent Poisson counts of mean 1, shape (draws, rows)."""
    counts: Array = _poisson_table()[rng.integers(0, 2**16, (draws, rows), dtype=np.uint16)].astype(np.float64)
    return counts


@cache
def _poisson_table() -> Array:
    """Quantiles of a Poisson distribution of mean 1 at 65536 points: a look-up is faster than a draw."""
    probabilities = [math.exp(-1) / math.factorial(count) for count in range(12)]
    return np.searchsorted(np.cumsum(probabilities), (np.arange(2**16) + 0.5) / 2**16).astype(np.uint8)
