from __future__ import annotations

import sys
from typing import Any

import pytest

from ml_pipelines.errors import MissingExtra, ModelError
from ml_pipelines.modeling import estimators
from ml_pipelines.modeling.estimators import build_estimator, validate_candidates
from ml_pipelines.spec.gate import Gate
from ml_pipelines.spec.sources import FileSource
from ml_pipelines.spec.training import Candidate, Data, Model, PipelineSpec


def build(estimator: str, task: Any = "classification", **params: Any) -> Any:
    return build_estimator(Candidate(name="c", estimator=estimator, params=params), task=task, seed=7)


def test_build_estimator_sets_the_seed_unless_the_candidate_does() -> None:
    assert build("sklearn.ensemble.RandomForestClassifier").random_state == 7
    assert build("sklearn.ensemble.RandomForestClassifier", random_state=None).random_state == 7
    assert build("sklearn.ensemble.RandomForestClassifier", random_state=1).random_state == 1
    assert build("sklearn.linear_model.LinearRegression", "regression").get_params()["fit_intercept"] is True


def test_build_estimator_passes_parameters() -> None:
    estimator = build("sklearn.neural_network.MLPClassifier", hidden_layer_sizes=[8, 4], alpha=0.1)
    assert (estimator.hidden_layer_sizes, estimator.alpha) == ([8, 4], 0.1)


@pytest.mark.parametrize("path", ["os.system", "antigravity.Classifier", "sklearnx.linear_model.Ridge", "", "builtins"])
def test_build_estimator_does_not_import_a_package_that_is_not_allowed(path: str) -> None:
    with pytest.raises(ModelError, match="is not from an allowed package") as caught:
        build(path)
    assert caught.value.where == "candidate c"
    assert "sklearn" in caught.value.expected
    assert "sklearn.ensemble.RandomForestClassifier" in caught.value.fix
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    "path",
    [
        "sklearn",
        "sklearn.base.clone",
        "sklearn.ensemble._forest.RandomForestClassifier",
        "sklearn.ensemble.__builtins__",
        "sklearn.utils.os.system",
        "sklearn.linear_model..Ridge",
        "sklearn.nothing.Here",
        "sklearn.datasets.load_iris",
        "sklearn.calibration.np",
        "sklearn.svm.1",
    ],
)
def test_build_estimator_refuses_paths_without_a_public_estimator(path: str) -> None:
    with pytest.raises(ModelError, match="there is no estimator"):
        build(path)


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("sklearn.ensemble.RandomForrestClassifier", "sklearn.ensemble.RandomForestClassifier"),
        ("sklearn.LogisticRegression", "sklearn.linear_model.LogisticRegression"),
        ("sklearn.ensemble._forest.RandomForestClassifier", "sklearn.ensemble.RandomForestClassifier"),
    ],
)
def test_build_estimator_suggests_a_similar_estimator(path: str, meant: str) -> None:
    with pytest.raises(ModelError) as caught:
        build(path)
    assert caught.value.fix == f"did you mean {meant}?"


def test_build_estimator_refuses_an_estimator_of_the_other_task() -> None:
    with pytest.raises(ModelError, match="RandomForestRegressor is no classifier") as caught:
        build("sklearn.ensemble.RandomForestRegressor")
    assert caught.value.expected == "a classifier, since model.task is classification"
    assert caught.value.fix == "did you mean sklearn.ensemble.RandomForestClassifier?"
    with pytest.raises(ModelError, match="StandardScaler is no regressor"):
        build("sklearn.preprocessing.StandardScaler", "regression")


def test_build_estimator_suggests_a_similar_parameter() -> None:
    with pytest.raises(ModelError, match="has no parameter 'n_estimator'") as caught:
        build("sklearn.ensemble.RandomForestClassifier", n_estimator=3)
    assert caught.value.fix == "did you mean n_estimators?"
    assert "max_depth" in caught.value.expected


def test_build_estimator_validates_values_before_a_fit() -> None:
    with pytest.raises(ModelError, match="RandomForestClassifier does not take these parameters") as caught:
        build("sklearn.ensemble.RandomForestClassifier", n_estimators=-1)
    assert "'n_estimators' parameter" in caught.value.got
    assert caught.value.fix == "correct params in the declaration"


def test_build_estimator_reports_a_missing_required_parameter() -> None:
    with pytest.raises(ModelError, match="does not take these parameters") as caught:
        build("sklearn.ensemble.VotingClassifier")
    assert "estimators" in caught.value.got


@pytest.mark.parametrize("path", ["sklearn.svm.SVC", "sklearn.linear_model.RidgeClassifier"])
def test_build_estimator_refuses_a_classifier_without_probabilities(path: str) -> None:
    with pytest.raises(ModelError, match="predicts no probabilities") as caught:
        build(path)
    assert "choose another estimator" in caught.value.fix


def test_build_estimator_names_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ML_PIPELINES_CODE_PACKAGES", "not_there")
    with pytest.raises(MissingExtra, match="the package 'not_there' is not installed") as caught:
        build("not_there.Classifier")
    assert "pip install not_there" in caught.value.fix


def spec(*candidates: Candidate) -> PipelineSpec:
    return PipelineSpec(
        name="churn",
        model=Model(name="churn", task="classification"),
        data=Data(file=FileSource(path="x.csv"), target="label"),
        gate=Gate(metric="roc_auc"),
        candidates=candidates,
    )


def test_validate_candidates_lists_all_errors() -> None:
    wrong = spec(
        Candidate(name="a", estimator="os.system"),
        Candidate(name="fine", estimator="sklearn.linear_model.LogisticRegression"),
        Candidate(name="b", estimator="sklearn.svm.SVC"),
    )
    with pytest.raises(ModelError, match="2 candidates can't be trained") as caught:
        validate_candidates(wrong)
    text = str(caught.value)
    assert "where: candidate a" in text
    assert "where: candidate b" in text
    assert "candidate fine" not in text


def test_validate_candidates_accepts_the_default_candidates() -> None:
    assert len(spec().effective_candidates) == 2
    validate_candidates(spec())


def test_validate_candidates_needs_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimators, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="the package 'scikit-learn' is not installed") as caught:
        validate_candidates(spec())
    assert 'pip install "airflow-provider-ml-pipelines[ml]"' in caught.value.fix
