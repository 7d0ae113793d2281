from __future__ import annotations

import builtins
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.base import BaseEstimator
from sklearn.linear_model import Ridge
from sklearn.preprocessing import FunctionTransformer
from threadpoolctl import threadpool_limits

from ml_pipelines.errors import ModelError
from ml_pipelines.modeling.estimators import build_estimator
from ml_pipelines.modeling.search_results import discard_search_results
from ml_pipelines.modeling.serialization import dump_model, load_model
from ml_pipelines.modeling.trusted_types import REVIEWED_TYPES
from ml_pipelines.spec.training import Candidate

RNG = np.random.default_rng(0)
X = RNG.random((80, 3))
CLASSES = np.array(["a", "b", "ç"])[np.arange(80) % 3]

CLASSIFIERS: dict[str, dict[str, Any]] = {
    "sklearn.linear_model.LogisticRegression": {},
    "sklearn.linear_model.SGDClassifier": {"loss": "log_loss"},
    "sklearn.ensemble.HistGradientBoostingClassifier": {"max_iter": 5},
    "sklearn.ensemble.RandomForestClassifier": {"n_estimators": 5},
    "sklearn.ensemble.ExtraTreesClassifier": {"n_estimators": 5},
    "sklearn.ensemble.GradientBoostingClassifier": {"n_estimators": 5},
    "sklearn.ensemble.AdaBoostClassifier": {"n_estimators": 5},
    "sklearn.ensemble.BaggingClassifier": {"n_estimators": 5},
    "sklearn.tree.DecisionTreeClassifier": {},
    "sklearn.neighbors.KNeighborsClassifier": {"metric": "manhattan"},
    # How fast these converge depends on the processor; with a strong penalty they do in a few steps on each.
    "sklearn.neural_network.MLPClassifier": {"solver": "lbfgs", "max_iter": 1000, "alpha": 10.0},
    "sklearn.naive_bayes.GaussianNB": {},
    "sklearn.discriminant_analysis.LinearDiscriminantAnalysis": {},
    "sklearn.calibration.CalibratedClassifierCV": {},
    "sklearn.gaussian_process.GaussianProcessClassifier": {},
    "sklearn.dummy.DummyClassifier": {},
    "lightgbm.LGBMClassifier": {"n_estimators": 5},
    "xgboost.XGBClassifier": {"n_estimators": 5},
    "xgboost.XGBRFClassifier": {"n_estimators": 5},
    "catboost.CatBoostClassifier": {"iterations": 5},
    "sklearn.ensemble.StackingClassifier": {
        "estimators": {
            "boosting": {"estimator": "xgboost.XGBClassifier", "params": {"n_estimators": 3}},
            "symmetric": {"estimator": "catboost.CatBoostClassifier", "params": {"iterations": 3}},
            "nearest": {"estimator": "sklearn.neighbors.KNeighborsClassifier"},
        },
        "final_estimator": {"estimator": "sklearn.linear_model.LogisticRegression"},
    },
    "sklearn.ensemble.VotingClassifier": {
        "voting": "soft",
        "estimators": {
            "trees": {"estimator": "lightgbm.LGBMClassifier", "params": {"n_estimators": 3}},
            "linear": {"estimator": "sklearn.linear_model.LogisticRegression"},
        },
    },
    "sklearn.model_selection.GridSearchCV": {
        "estimator": {"estimator": "xgboost.XGBClassifier", "params": {"n_estimators": 3}},
        "param_grid": {"max_depth": [1, 3]},
    },
    "sklearn.pipeline.Pipeline": {
        "steps": {
            "squares": {"estimator": "sklearn.preprocessing.PolynomialFeatures"},
            "model": {
                "estimator": "sklearn.calibration.CalibratedClassifierCV",
                "params": {"method": "isotonic", "estimator": {"estimator": "sklearn.svm.SVC"}},
            },
        }
    },
}
REGRESSORS: dict[str, dict[str, Any]] = {
    "sklearn.linear_model.Ridge": {},
    "sklearn.linear_model.ElasticNet": {"alpha": 0.01},
    "sklearn.linear_model.TweedieRegressor": {"power": 1.5},
    "sklearn.ensemble.HistGradientBoostingRegressor": {"max_iter": 5, "loss": "poisson"},
    "sklearn.ensemble.RandomForestRegressor": {"n_estimators": 5},
    "sklearn.ensemble.GradientBoostingRegressor": {"n_estimators": 5, "loss": "huber"},
    "sklearn.neighbors.KNeighborsRegressor": {"algorithm": "ball_tree"},
    "sklearn.neural_network.MLPRegressor": {"solver": "lbfgs", "max_iter": 1000, "alpha": 10.0},
    "sklearn.svm.SVR": {},
    "sklearn.dummy.DummyRegressor": {},
    "lightgbm.LGBMRegressor": {"n_estimators": 5},
    "xgboost.XGBRegressor": {"n_estimators": 5},
    "xgboost.XGBRFRegressor": {"n_estimators": 5},
    "catboost.CatBoostRegressor": {"iterations": 5},
    "sklearn.model_selection.RandomizedSearchCV": {
        "estimator": {"estimator": "catboost.CatBoostRegressor", "params": {"iterations": 3}},
        "param_distributions": {"depth": [1, 2, 3]},
        "n_iter": 2,
    },
}


@pytest.mark.parametrize("path", [*CLASSIFIERS, *REGRESSORS])
def test_estimators_come_back_as_they_were_and_equal_models_are_equal_bytes(path: str) -> None:
    task: Any = "classification" if path in CLASSIFIERS else "regression"
    params, y = (CLASSIFIERS[path], CLASSES) if path in CLASSIFIERS else (REGRESSORS[path], X[:, 0] + 1)
    candidate = Candidate(name="c", estimator=path, params=params)
    with threadpool_limits(1):
        one, other = (build_estimator(candidate, task=task, seed=3).fit(X, y) for _ in range(2))
    discard_search_results([one, other])
    data = dump_model(one)
    assert dump_model(other) == data
    again = load_model(data)
    assert dump_model(again) == data
    answer = "predict_proba" if task == "classification" else "predict"
    np.testing.assert_array_equal(getattr(again, answer)(X), getattr(one, answer)(X))
    np.testing.assert_array_equal(again.predict(X), one.predict(X))


_MODEL_IN_ANOTHER_PROCESS = """
import hashlib
import polars as pl
from ml_pipelines.modeling.search_results import discard_search_results
from ml_pipelines.modeling.serialization import dump_model, load_model
from ml_pipelines.pipeline.step_parameters import TrainParameters
from ml_pipelines.spec.training import Candidate, Features
from ml_pipelines.steps.training.train import train
from tests.step_values import split_record
rows = 200
table = pl.LazyFrame({
    "n": [float(i * 37 % 101) for i in range(rows)],
    "few": [("red", "blue", None)[i % 3] for i in range(rows)],
    "many": [f"level {i % 17}" for i in range(rows)],
    "label": [int((i * 37 % 101 > 50) ^ (i % 7 == 0)) for i in range(rows)],
})
for path, count in ("HistGradientBoostingClassifier", "max_iter"), ("RandomForestClassifier", "n_estimators"):
    parameters = TrainParameters(
        task="classification", key=None, target="label", positive=None, features=Features(max_onehot=5),
        candidate=Candidate(name="c", estimator=f"sklearn.ensemble.{path}", params={count: 10}), model="m",
    )
    data = dump_model(train(table=table, split=split_record(), parameters=parameters, seed=5).outputs["model"])
    load_model(data)
    print(path, hashlib.sha256(data).hexdigest())
"""


def test_other_processes_write_the_same_bytes() -> None:
    include = str(Path(__file__).parents[4] / "include")
    created = [
        subprocess.run(
            [sys.executable, "-c", _MODEL_IN_ANOTHER_PROCESS],
            env={**os.environ, "PYTHONPATH": include, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert len(created[0].splitlines()) == 2
    assert created[0] == created[1]


def test_a_model_file_holds_neither_addresses_nor_dates() -> None:
    model = Ridge().fit(X, X[:, 0])
    with zipfile.ZipFile(io.BytesIO(dump_model(model))) as stored:
        assert {entry.date_time for entry in stored.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert stored.namelist() == sorted(stored.namelist())
        schema = stored.read("schema.json").decode()
    assert "__id__" not in schema
    assert str(id(model)) not in schema


def test_the_order_of_a_set_does_not_matter() -> None:
    def model(numbers: list[int]) -> Any:
        return FunctionTransformer(kw_args={"numbers": set(numbers)})

    collide = [0, 2**61 - 1]  # of the same hash, so a set keeps the order in which they came
    assert list({*collide}) != list({*reversed(collide)})
    data = dump_model(model(collide))
    assert data == dump_model(model(collide[::-1]))
    assert load_model(data).kw_args["numbers"] == set(collide)


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")
def test_skops_and_mlflow_read_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Ridge().fit(X, X[:, 0])
    data = dump_model(model)
    assert skops.io.loads(data, trusted=list(REVIEWED_TYPES)).coef_.tolist() == model.coef_.tolist()
    mlflow_sklearn = pytest.importorskip("mlflow.sklearn")
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    mlflow_sklearn.save_model(
        model, str(tmp_path / "m"), serialization_format="skops", pip_requirements=["scikit-learn"]
    )
    (tmp_path / "m" / "model.skops").write_bytes(data)
    assert mlflow_sklearn.load_model(str(tmp_path / "m")).coef_.tolist() == model.coef_.tolist()


class Untrusted(BaseEstimator):
    pass


def test_untrusted_type_is_refused_on_writing_and_reading() -> None:
    name = f"{Untrusted.__module__}.Untrusted"
    with pytest.raises(ModelError, match="types that are not trusted") as caught:
        dump_model(Untrusted())
    assert name in caught.value.what
    assert caught.value.where == "Untrusted"
    assert "choose another estimator" in caught.value.fix
    with pytest.raises(ModelError, match="types that are not trusted") as caught:
        load_model(skops.io.dumps(Untrusted()))
    assert name in caught.value.what


@pytest.mark.parametrize("function", [os.system, builtins.eval, np.save])
def test_a_file_that_names_a_function_is_refused(function: Any) -> None:
    with pytest.raises(ModelError, match=f"types that are not trusted.*{function.__name__}"):
        load_model(skops.io.dumps(FunctionTransformer(func=function)))


def test_dump_model_refuses_an_object_that_skops_cannot_store() -> None:
    with pytest.raises(ModelError, match="can't be stored in the skops format") as caught:
        dump_model(FunctionTransformer(kw_args={"stream": (i for i in range(3))}))
    assert caught.value.where == "FunctionTransformer"
    assert "choose another estimator" in caught.value.fix


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-50], lambda data: b"PK" + data])
def test_load_model_refuses_damaged_files(damage: Any) -> None:
    with pytest.raises(ModelError, match="the model file can't be read") as caught:
        load_model(damage(dump_model(Ridge().fit(X, X[:, 0])))[:400])
    assert "train the model again" in caught.value.fix


def test_every_trusted_type_exists() -> None:
    for path in REVIEWED_TYPES:
        module, _, name = path.rpartition(".")
        assert callable(getattr(__import__(module, fromlist=[name]), name)), path
