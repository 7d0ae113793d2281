from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from ml_pipelines.errors import ModelError
from ml_pipelines.modeling.estimators import build_estimator
from ml_pipelines.modeling.native_models import NativeClassifier, NativeRegressor
from ml_pipelines.modeling.serialization import dump_model, load_model
from ml_pipelines.spec.training import Candidate

CLASSIFIERS = {"xgboost.XGBClassifier": "n_jobs", "catboost.CatBoostClassifier": "thread_count"}
RNG = np.random.default_rng(0)
X = RNG.random((200, 4))
X[::5, 1] = np.nan
LABELS: dict[str, Any] = {
    "texts": np.array(["a", "b", "ç"])[np.arange(200) % 3],
    "booleans": X[:, 0] > 0.5,
    "numbers": np.where(X[:, 0] > 0.5, 7, -2),
}


def build(path: str, **params: Any) -> Any:
    task: Any = "classification" if "Classifier" in path else "regression"
    return build_estimator(Candidate(name="c", estimator=path, params={"n_estimators": 5, **params}), task=task, seed=7)


@pytest.mark.parametrize("path", CLASSIFIERS)
@pytest.mark.parametrize("labels", LABELS)
def test_labels_of_any_type_come_back(path: str, labels: str) -> None:
    y = LABELS[labels]
    model = build(path).fit(X, y)
    assert model.classes_.tolist() == np.unique(y).tolist()
    answers = model.predict(X)
    assert answers.shape == y.shape
    assert answers.dtype == y.dtype
    assert (answers == model.classes_[model.predict_proba(X).argmax(axis=1)]).all()
    assert (load_model(dump_model(model)).predict(X) == answers).all()


@pytest.mark.parametrize(("path", "threads"), CLASSIFIERS.items())
def test_defaults_are_one_thread_and_the_seed(path: str, threads: str) -> None:
    params = build(path).get_params()
    assert (params[threads], params["random_state"]) == (1, 7)
    assert build(path, **{threads: 2}).get_params()[threads] == 2
    assert build(path, random_state=3).get_params()["random_state"] == 3
    assert build(path, random_state=None).get_params()["random_state"] == 7


def test_synonyms_of_catboost_replace_the_defaults() -> None:
    params = build("catboost.CatBoostClassifier", random_seed=3, logging_level="Silent").get_params()
    assert "random_state" not in params
    assert "verbose" not in params
    build("catboost.CatBoostClassifier", random_seed=3, logging_level="Silent").fit(X, LABELS["texts"])


def test_params_are_those_of_the_library() -> None:
    model = clone(build("xgboost.XGBClassifier", max_depth=2)).set_params(max_depth=3)
    assert model.get_params()["max_depth"] == 3
    assert "max_depth=3" in repr(model)
    assert model.fit(X, LABELS["booleans"]).estimator_.max_depth == 3


@pytest.mark.parametrize("path", ["xgboost.XGBRegressor", "catboost.CatBoostRegressor"])
def test_a_regressor_is_stored_in_the_format_of_its_library(path: str) -> None:
    model = build(path).fit(pd.DataFrame(X, columns=list("abcd")), X[:, 0])
    assert isinstance(model, NativeRegressor)
    check_is_fitted(model)
    again = load_model(dump_model(model))
    frame = pd.DataFrame(X, columns=list("abcd"))
    np.testing.assert_array_equal(again.predict(frame), model.predict(frame))
    assert (pickle.loads(pickle.dumps(model)).predict(frame) == model.predict(frame)).all()


@pytest.mark.parametrize("path", ["os.system", "xgboost.core.ctypes", "xgboost.DMatrix", "sklearn.svm.SVC", "catboost"])
def test_a_stored_model_names_no_other_object(path: str) -> None:
    forged = NativeClassifier(path)
    with pytest.raises(ModelError) as caught:
        load_model(dump_model(forged))
    assert path in str(caught.value)
    with pytest.raises(ModelError):
        forged.fit(X, LABELS["texts"])


def test_catboost_writes_no_file(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    build("catboost.CatBoostClassifier").fit(X, LABELS["texts"])
    assert [*tmp_path.iterdir()] == []


def test_libraries_are_imported_only_when_used() -> None:
    code = (
        "import sys\n"
        "from ml_pipelines.modeling.estimators import build_estimator\n"
        "from ml_pipelines.spec.training import Candidate\n"
        "linear = Candidate(name='c', estimator='sklearn.linear_model.LogisticRegression')\n"
        "build_estimator(linear, task='classification', seed=1)\n"
        "print(*sorted({'xgboost', 'catboost', 'lightgbm'} & {*sys.modules}))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
