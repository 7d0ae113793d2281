"""Early stopping of estimators that hold out rows of each class for it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["adapt_early_stopping"]

_ITERATIONS = 50  # without a held-out part nothing else limits them


def adapt_early_stopping(estimator: Any, y: NDArray[Any], *, classes: bool) -> str | None:
    """Switch early stopping off if there are too few rows of a class to hold some out, which scikit-learn refuses.

    Args:
        estimator: not yet fitted; changed in place.
        y: target of the training rows.
        classes: whether the target has classes.

    Returns:
        What was changed, for the warnings of the training; None if nothing was.
    """
    fraction = getattr(estimator, "validation_fraction", None)
    if not classes or getattr(estimator, "early_stopping", False) is not True or not isinstance(fraction, float):
        return None
    counts = np.unique(y, return_counts=True)[1]
    if counts.min() >= 2 and fraction * len(y) >= len(counts):
        return None
    iterations = min(estimator.max_iter, _ITERATIONS)
    estimator.set_params(early_stopping=False, max_iter=iterations)
    return f"early stopping is off, with {iterations} iterations: the rarest class has {counts.min()} training rows"
