from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.metrics import brier_score_loss
from sklearn.model_selection import StratifiedKFold

from ml_pipelines.errors import DataError, EstimatorError
from ml_pipelines.modeling.estimators import build_estimator
from ml_pipelines.modeling.weights_and_calibration import calibrate, model_options, row_weights
from ml_pipelines.spec.training import Candidate

RNG = np.random.default_rng(0)
X = RNG.normal(size=(600, 6))
Y = np.where(X[:, 0] + RNG.normal(size=600) > 1.3, "yes", "no")


def candidate(path: str, **options: Any) -> Candidate:
    return Candidate.model_validate({"name": "c", "estimator": path, **options})


@pytest.mark.parametrize(
    "path",
    [
        "sklearn.linear_model.LogisticRegression",
        "sklearn.ensemble.GradientBoostingClassifier",
        "lightgbm.LGBMClassifier",
        "xgboost.XGBClassifier",
        "catboost.CatBoostClassifier",
    ],
)
def test_weights_move_the_probabilities_to_the_rare_class(path: str) -> None:
    params = {} if "Logistic" in path else {"n_estimators": 20}
    means = []
    for weights in (None, "balanced", {"yes": 20}):
        declared = candidate(path, params=params, class_weights=weights)
        estimator = build_estimator(declared, task="classification", seed=1)
        estimator.fit(X, Y, sample_weight=row_weights(declared, Y))
        means.append(estimator.predict_proba(X)[:, 1].mean())
    assert means[0] < means[1] < means[2]


def test_balanced_classes_have_the_same_total_weight() -> None:
    weights = row_weights(candidate("a.B", class_weights="balanced"), Y)
    assert weights is not None
    assert weights[Y == "yes"].sum() == pytest.approx(weights[Y == "no"].sum())
    assert weights.sum() == pytest.approx(len(Y))


def test_declared_weights_find_labels_of_any_type() -> None:
    def weights(declared: dict[str, float], y: Any) -> Any:
        of_rows = row_weights(candidate("a.B", class_weights=declared), np.asarray(y))
        assert of_rows is not None
        return of_rows.tolist()

    assert weights({"1": 5}, [0, 1, 1]) == [1, 5, 5]
    assert weights({"true": 3, "False": 2}, [True, False]) == [3, 2]
    with pytest.raises(DataError) as caught:
        weights({"maybe": 2}, ["yes", "no"])
    assert "'maybe'" in caught.value.what


@pytest.mark.parametrize(
    ("path", "task", "options", "fact"),
    [
        ("sklearn.linear_model.Ridge", "regression", {"class_weights": "balanced"}, "classification"),
        ("sklearn.linear_model.Ridge", "regression", {"calibration": "sigmoid"}, "classification"),
        ("sklearn.neighbors.KNeighborsClassifier", "classification", {"class_weights": "balanced"}, "no weights"),
        (
            "catboost.CatBoostClassifier",
            "classification",
            {"class_weights": {"yes": 2}, "params": {"class_weights": [1, 2]}},
            "params.class_weights",
        ),
    ],
)
def test_options_that_do_not_fit_are_errors_at_their_field(path: str, task: Any, options: Any, fact: str) -> None:
    with pytest.raises(EstimatorError) as caught:
        build_estimator(candidate(path, **options), task=task, seed=1)
    assert caught.value.field == (next(iter(options)),)
    assert fact in caught.value.what


@pytest.mark.parametrize("value", ["balancd", {"yes": 0}, {"yes": -1}, {"yes": "many"}])
def test_weights_are_validated(value: Any) -> None:
    with pytest.raises(ValidationError):
        candidate("a.B", class_weights=value)


@pytest.mark.parametrize("method", ["isotonic", "sigmoid"])
def test_calibration_corrects_probabilities_of_new_rows(method: str) -> None:
    declared = candidate("sklearn.naive_bayes.GaussianNB", calibration=method)
    repeated = np.hstack([X] * 5)  # naive Bayes is much too sure of repeated columns
    plain = build_estimator(declared, task="classification", seed=1)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    fitted = calibrate(declared, plain, folds).fit(repeated[:400], Y[:400])
    plain.fit(repeated[:400], Y[:400])
    losses = [
        brier_score_loss(Y[400:] == "yes", model.predict_proba(repeated[400:])[:, 1]) for model in (fitted, plain)
    ]
    assert losses[0] < losses[1]


def test_options_are_listed_only_if_declared() -> None:
    assert model_options(candidate("a.B")) == {}
    assert model_options(candidate("a.B", calibration="sigmoid")) == {"calibration": "sigmoid"}
