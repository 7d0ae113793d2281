from __future__ import annotations

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from ml_pipelines.modeling.search_results import best_parameters, discard_search_results
from ml_pipelines.modeling.serialization import dump_model

X = np.random.default_rng(0).random((60, 2))
Y = (X[:, 0] > 0.5).astype(int)


def search() -> GridSearchCV:
    return GridSearchCV(LogisticRegression(), {"C": [1.0], "class_weight": ["balanced"]}, cv=2)


def test_equal_searches_are_equal_files_and_predict_as_before() -> None:
    models = [Pipeline([("model", CalibratedClassifierCV(search(), cv=2))]).fit(X, Y) for _ in range(2)]
    before = models[0].predict_proba(X)
    for model in models:
        discard_search_results(model)
    assert dump_model(models[0]) == dump_model(models[1])
    np.testing.assert_array_equal(models[0].predict_proba(X), before)


def test_best_parameters_are_those_of_a_search() -> None:
    assert best_parameters(search().fit(X, Y)) == {"best_params": {"C": 1.0, "class_weight": "balanced"}}
    assert best_parameters(LogisticRegression().fit(X, Y)) == {}
