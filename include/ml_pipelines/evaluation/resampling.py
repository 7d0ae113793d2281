"""How often each row was drawn in a resample that has as many rows of every class as there are.

A class of `EXACT_ROWS` rows or less is drawn with replacement, as the textbook says. In a larger one each row's weight
is drawn from a Poisson distribution of mean 1, and all are scaled to the size of the class: the same in the limit,
without a hundred thousand random row numbers to count for each draw.
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

EXACT_ROWS = 1000
BLOCK_CELLS = 2**17  # rows times draws that are held at once: 1 MB an array, which stays in the processor's cache


def weight_blocks(bounds: list[tuple[int, int]], draws: int, rng: np.random.Generator) -> Iterator[Array]:
    """Blocks of weights, shape (some draws, rows); those of a class add up to its number of rows in every draw."""
    rows = bounds[-1][1]
    step = max(1, BLOCK_CELLS // rows)
    for at in range(0, draws, step):
        block = np.empty((min(step, draws - at), rows))
        for first, last in bounds:
            draw = multinomial_weights if last - first <= EXACT_ROWS else _scaled
            block[:, first:last] = draw(len(block), last - first, rng)
        yield block


def multinomial_weights(draws: int, rows: int, rng: np.random.Generator) -> Array:
    """How often each row occurs among as many that are drawn with replacement."""
    numbers = rng.integers(0, rows, (draws, rows)) + rows * np.arange(draws)[:, None]
    return np.bincount(numbers.ravel(), minlength=draws * rows).reshape(draws, rows)


def _scaled(draws: int, rows: int, rng: np.random.Generator) -> Array:
    weights = poisson_weights(draws, rows, rng)
    weights *= rows / weights.sum(axis=1, keepdims=True)
    return weights


def poisson_weights(draws: int, rows: int, rng: np.random.Generator) -> Array:
    """How often each row occurs, one without regard to the others."""
    times: Array = _poisson_table()[rng.integers(0, 2**16, (draws, rows), dtype=np.uint16)].astype(np.float64)
    return times


@cache
def _poisson_table() -> Array:
    """A Poisson distribution of mean 1 as 65536 equally likely values: several times as fast as to draw from it."""
    chances = [math.exp(-1) / math.factorial(times) for times in range(12)]
    return np.searchsorted(np.cumsum(chances), (np.arange(2**16) + 0.5) / 2**16).astype(np.uint8)
