from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from ml_pipelines.modeling.early_stopping import adapt_early_stopping
from ml_pipelines.modeling.estimators import build_estimator
from ml_pipelines.spec.training import DEFAULT_CANDIDATES

RNG = np.random.default_rng(0)


def boosted(task: Any) -> Any:
    return build_estimator(DEFAULT_CANDIDATES[task][-1], task=task, seed=1)


@pytest.mark.parametrize("counts", [(60, 1), (3, 3), (40, 1, 1), (2, 2, 2, 2)])
def test_boosted_trees_of_the_defaults_fit_any_number_of_rows_of_a_class(counts: tuple[int, ...]) -> None:
    y = np.repeat(np.arange(len(counts)), counts)
    estimator = boosted("classification")
    with pytest.raises(ValueError, match="class"):
        boosted("classification").fit(RNG.normal(size=(len(y), 2)), y)
    change = adapt_early_stopping(estimator, y, classes=True)
    assert change is not None
    assert str(min(counts)) in change
    estimator.fit(RNG.normal(size=(len(y), 2)), y)
    assert estimator.n_iter_ <= 50


@pytest.mark.parametrize(
    ("estimator", "y", "classes"),
    [
        (boosted("classification"), np.arange(100) % 2, True),
        (boosted("regression"), np.arange(4.0), False),
        (LogisticRegression(), np.array([0, 1, 1, 1]), True),
    ],
)
def test_other_estimators_are_not_changed(estimator: Any, y: Any, classes: bool) -> None:
    before = estimator.get_params()
    assert adapt_early_stopping(estimator, y, classes=classes) is None
    assert estimator.get_params() == before
