"""An estimator of a further package, by configuration only: train, store, load, evaluate and predict."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.step_values import split_record

from ml_pipelines.errors import EstimatorError, ModelError
from ml_pipelines.modeling.features import feature_frame, predict
from ml_pipelines.modeling.serialization import dump_model, load_model
from ml_pipelines.modeling.trusted_types import TYPES_VARIABLE
from ml_pipelines.pipeline.step import StepOutput
from ml_pipelines.pipeline.step_parameters import EvaluateParameters, TrainParameters
from ml_pipelines.spec.code_packages import PACKAGES_VARIABLE, PICKLE_VARIABLE
from ml_pipelines.spec.gate import Slices
from ml_pipelines.spec.training import Candidate, Features
from ml_pipelines.steps.training.evaluate import evaluate
from ml_pipelines.steps.training.train import train

SOURCE = '''
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin


class CentroidClassifier(ClassifierMixin, BaseEstimator):
    """Probabilities by the distances to the means of two classes."""

    def __init__(self, scale=1.0):
        self.scale = scale

    def fit(self, X, y):
        if self.scale <= 0:
            raise LookupError("scale must be positive")
        self.classes_ = np.unique(y)
        self.centers_ = np.stack([np.asarray(X)[y == label].mean(axis=0) for label in self.classes_])
        return self

    def predict_proba(self, X):
        distances = ((np.asarray(X)[:, None] - self.centers_) ** 2).sum(axis=2) / self.scale
        closeness = np.exp(-distances + distances.min(axis=1, keepdims=True))
        return closeness / closeness.sum(axis=1, keepdims=True)

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package on `sys.path` that is not installed as a distribution."""
    folder = tmp_path / "tinycentroids"
    folder.mkdir()
    (folder / "__init__.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tinycentroids", raising=False)
    monkeypatch.delenv(TYPES_VARIABLE, raising=False)
    monkeypatch.setenv(PICKLE_VARIABLE, "forbid")
    monkeypatch.setenv(PACKAGES_VARIABLE, "tinycentroids")


def table() -> pl.LazyFrame:
    x = np.random.default_rng(0).normal(size=80)
    return pl.LazyFrame({"x": x, "label": (x > 0).astype(int)})


def fit(**params: float) -> StepOutput:
    candidate = Candidate(name="centroids", estimator="tinycentroids.CentroidClassifier", params=params)
    parameters = TrainParameters(
        task="classification",
        key=None,
        target="label",
        positive=None,
        features=Features(),
        candidate=candidate,
        model="churn",
    )
    return train(table=table(), validation=table(), split=split_record(), parameters=parameters, seed=1)


def test_estimator_of_an_allowed_package_is_trained_evaluated_and_loaded(
    package: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = fit(scale=2.0)
    model, training = output.outputs["model"], output.outputs["training"]
    with pytest.raises(ModelError) as caught:
        dump_model(model)
    assert "tinycentroids.CentroidClassifier" in caught.value.what
    assert f"{TYPES_VARIABLE}=tinycentroids.CentroidClassifier" in caught.value.fix

    monkeypatch.setenv(TYPES_VARIABLE, "tinycentroids.CentroidClassifier")
    data = dump_model(model)
    parameters = EvaluateParameters(
        task="classification",
        key=None,
        target="label",
        metric="roc_auc",
        slices=Slices(),
        confidence=0.95,
        draws=200,
        model="churn",
    )
    evaluation = evaluate(
        models=[lambda: load_model(data)],
        trainings=[training],
        predictions=[output.outputs["predictions"]],
        train=table(),
        validation=table(),
        test=table(),
        parameters=parameters,
        seed=1,
    ).outputs["evaluation"]
    assert evaluation["candidates"][0]["test"]["roc_auc"] == 1.0
    frame = feature_frame(table(), training["features"])
    assert predict(load_model(data), frame, training) == pytest.approx(predict(model, frame, training))
    assert "tinycentroids.CentroidClassifier" in fit().outputs["training"]["trusted_types"]


def test_estimator_of_a_package_that_is_not_allowed_is_refused(package: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PACKAGES_VARIABLE)
    with pytest.raises(EstimatorError) as caught:
        fit()
    assert PACKAGES_VARIABLE in caught.value.fix
    assert "tinycentroids" not in sys.modules


def test_any_error_of_an_estimator_is_a_model_error(package: None) -> None:
    with pytest.raises(ModelError) as caught:
        fit(scale=-1.0)
    assert caught.value.where.startswith("candidate centroids")
    assert "LookupError" in caught.value.got
