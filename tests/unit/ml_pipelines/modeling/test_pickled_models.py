"""Estimators that are stored as pickles: who unpickles them, with which rights, and what is refused."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

from ml_pipelines.errors import ModelError, RequestError
from ml_pipelines.modeling.estimators import build_estimator
from ml_pipelines.modeling.pickled_models import PickledClassifier, PickledRegressor, is_pickled
from ml_pipelines.modeling.serialization import dump_model, load_model
from ml_pipelines.modeling.trusted_types import TYPES_VARIABLE
from ml_pipelines.spec.code_folder_import import FOLDER_VARIABLE, use_code_folder
from ml_pipelines.spec.code_packages import PACKAGES_VARIABLE, PICKLE_VARIABLE, may_pickle
from ml_pipelines.spec.training import Candidate

CODE = '''
import os
import signal

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin


class Mean:
    """A plain object, which skops does not store."""

    def __init__(self, value):
        self.value = value


class Nearest(ClassifierMixin, BaseEstimator):
    def __init__(self, power=2, fault=""):
        self.power, self.fault = power, fault

    def fit(self, X, y):
        classes = np.unique(y)
        self.means_ = [Mean(X[y == label].mean(axis=0)) for label in classes]
        if self.fault == "lambda":
            self.function_ = lambda: 0
        if self.fault != "no classes":
            self.classes_ = classes[::-1] if self.fault == "other order" else classes
        return self

    def predict_proba(self, X):
        if self.fault == "raises" and "SHOP_FAULT" not in os.environ:
            raise KeyError("vists")
        if self.fault == "dies" and "SHOP_FAULT" not in os.environ:
            os._exit(7)
        if X[0, 0] > 100:
            signal.pause()
        weights = [np.exp(-(np.abs(X - mean.value) ** self.power).sum(axis=1)) for mean in self.means_]
        print("predicting")
        result = np.stack(weights, axis=1) / np.sum(weights, axis=0)[:, None]
        if "SHOP_FAULT" not in os.environ and self.fault in ("rows", "columns"):
            return result[:-1] if self.fault == "rows" else result[:, :-1]
        return result

    def predict(self, X):
        if self.fault == "label":
            return np.full(len(X), "another")
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


class Middle(RegressorMixin, BaseEstimator):
    def fit(self, X, y, sample_weight=None):
        self.mean_ = Mean(np.average(y, weights=sample_weight))
        return self

    def predict(self, X):
        return np.full(len(X), self.mean_.value)


class Secrets(RegressorMixin, BaseEstimator):
    """Predicts how many secrets its process has."""

    def fit(self, X, y):
        return self

    def predict(self, X):
        return np.full(len(X), sum("SECRET" in name for name in os.environ))
'''
X = np.random.default_rng(0).normal(size=(60, 3))
LABELS: dict[str, Any] = {
    "texts": np.array(["a", "b", "ç"])[np.arange(60) % 3],
    "booleans": X[:, 0] > 0,
    "numbers": np.where(X[:, 0] > 0, 7, -2),
}

Build = Callable[..., Any]


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    """Build a candidate whose class lies in an allowed module."""
    monkeypatch.setenv(PACKAGES_VARIABLE, "shop_nearest")
    monkeypatch.setenv(FOLDER_VARIABLE, "")
    monkeypatch.setenv("SHOP_FAULT", "not here")  # not passed to the other process
    monkeypatch.delitem(sys.modules, "shop_nearest", raising=False)
    use_code_folder(tmp_path)
    (tmp_path / "shop_nearest.py").write_text(CODE)

    def build(name: str = "Nearest", **params: Any) -> Any:
        task: Any = "classification" if name == "Nearest" else "regression"
        candidate = Candidate(name="c", estimator=f"shop_nearest.{name}", params=params)
        return build_estimator(candidate, task=task, seed=0)

    return build


@pytest.mark.parametrize("labels", LABELS)
def test_the_stored_model_predicts_as_the_fitted_one(build: Build, labels: str) -> None:
    y = LABELS[labels]
    fitted = build(power=1).fit(X, y)
    stored = load_model(dump_model(fitted))
    assert isinstance(fitted, PickledClassifier)
    assert stored.classes_.tolist() == np.unique(y).tolist()
    assert stored.predict(X).dtype == fitted.predict(X).dtype == y.dtype
    assert stored.predict(X).tolist() == fitted.predict(X).tolist()
    assert stored.predict_proba(X).tolist() == fitted.predict_proba(X).tolist()


def test_a_regressor_takes_weights(build: Build) -> None:
    y, weights = X[:, 0], np.arange(60)
    stored = load_model(dump_model(build("Middle").fit(X, y, sample_weight=weights)))
    assert isinstance(stored, PickledRegressor)
    assert stored.predict(X[:2]).tolist() == [np.average(y, weights=weights)] * 2


def test_to_load_a_model_runs_no_code_and_to_predict_runs_it_without_credentials(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_SECRET", "s3cr3t")
    fitted = build("Secrets").fit(X, X[:, 0])
    monkeypatch.delitem(sys.modules, "shop_nearest")
    stored = load_model(dump_model(fitted))
    assert "shop_nearest" not in sys.modules
    assert fitted.predict(X[:1]).tolist() == [1]
    assert stored.predict(X[:1]).tolist() == [0]
    assert "shop_nearest" not in sys.modules


def test_a_clone_has_the_parameters_and_no_model(build: Build) -> None:
    copy = clone(build(power=3).fit(X, LABELS["texts"]))
    assert copy.get_params() == {"pickled_class": "shop_nearest.Nearest", "power": 3, "fault": ""}
    assert not hasattr(copy, "pickle_")


@pytest.mark.parametrize(
    ("fault", "message"), [("lambda", "can't be pickled"), ("no classes", "labels"), ("other order", "labels")]
)
def test_an_estimator_that_can_not_be_stored_fails_in_its_fit(build: Build, fault: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as error:
        build(fault=fault).fit(X, LABELS["texts"])
    assert error.value.expected
    assert error.value.fix


@pytest.mark.parametrize(
    ("fault", "got"),
    [
        ("raises", "shop_nearest.py:"),
        ("dies", "exit code 7"),
        ("rows", "shape (59, 3)"),
        ("columns", "shape (60, 2)"),
    ],
)
def test_a_failure_in_the_process_of_the_pickle_is_an_error_of_the_model(build: Build, fault: str, got: str) -> None:
    stored = load_model(dump_model(build(fault=fault).fit(X, LABELS["texts"])))
    for _ in range(2):  # a process that died is started again
        with pytest.raises(ModelError) as error:
            stored.predict_proba(X)
        assert got in error.value.got
        assert error.value.fix


def test_a_label_that_the_training_did_not_have_is_an_error(build: Build) -> None:
    fitted = build(fault="label").fit(X, LABELS["texts"])
    for model in (fitted, load_model(dump_model(fitted))):
        with pytest.raises(ModelError, match="not in classes_") as error:
            model.predict(X)
        assert error.value.got == "'another'"


def test_an_interrupted_prediction_is_no_answer_to_the_next_one(build: Build) -> None:
    def expire(number: int, frame: object) -> None:
        raise TimeoutError

    fitted = build().fit(X, LABELS["texts"])
    stored = load_model(dump_model(fitted))
    endless = X.copy()
    endless[0, 0] = 1000.0
    earlier = signal.signal(signal.SIGALRM, expire)
    try:
        for after in (0.01, 4.0):  # while the process starts, and while it predicts
            signal.setitimer(signal.ITIMER_REAL, after)
            with pytest.raises(TimeoutError):
                stored.predict_proba(endless)
            assert stored.predict_proba(X[:7]).tolist() == fitted.predict_proba(X[:7]).tolist()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)


def test_what_is_no_pickle_is_an_error_of_the_model(build: Build) -> None:
    fitted = build().fit(X, LABELS["texts"])
    fitted.pickle_ = b"cos\nsystem"
    with pytest.raises(ModelError, match="loads its pickle"):
        load_model(dump_model(fitted)).predict(X)


def test_a_deployment_forbids_pickles(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    data = dump_model(build().fit(X, LABELS["texts"]))
    monkeypatch.setenv(PICKLE_VARIABLE, "forbid")
    with pytest.raises(ModelError, match=r"pickled_models\.PickledClassifier"):
        load_model(data)
    assert not isinstance(build(), PickledClassifier)


def test_a_deployment_without_own_packages_loads_no_pickle(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    data = dump_model(build().fit(X, LABELS["texts"]))
    monkeypatch.delenv(PACKAGES_VARIABLE)
    assert not may_pickle()
    with pytest.raises(ModelError, match=r"pickled_models\.PickledClassifier"):
        load_model(data)


def test_a_trusted_type_is_not_pickled(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_pickled("shop_nearest:Nearest")
    monkeypatch.setenv(TYPES_VARIABLE, "shop_nearest.Nearest")
    assert not is_pickled("shop_nearest:Nearest")
    assert not is_pickled("sklearn.svm.SVC")


def test_another_value_of_the_policy_is_an_error(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PICKLE_VARIABLE, "never")
    with pytest.raises(RequestError, match="policy for pickled models"):
        may_pickle()
