from __future__ import annotations

import pytest

from ml_pipelines.errors import RequestError, SpecError
from ml_pipelines.spec.code_packages import DEFAULT_PACKAGES, PACKAGES_VARIABLE, allowed_packages, is_allowed_package
from ml_pipelines.spec.loader import parse_spec

DECLARATION = """\
model: {name: churn, task: classification}
data: {file: {path: a.csv}, target: label, key: id}
candidates: [{name: boosted, estimator: explainable.XGBClassifier}]
gate: {metric: roc_auc}
"""


@pytest.fixture(autouse=True)
def no_configuration(monkeypatch):
    monkeypatch.delenv(PACKAGES_VARIABLE, raising=False)


def test_default_packages_are_allowed():
    assert allowed_packages() == DEFAULT_PACKAGES == ("sklearn", "lightgbm", "xgboost", "catboost")
    assert is_allowed_package("lightgbm")
    assert not is_allowed_package("explainable")


def test_environment_variable_adds_packages(monkeypatch):
    monkeypatch.setenv(PACKAGES_VARIABLE, " explainable, interpret,sklearn,, ")
    assert allowed_packages() == (*DEFAULT_PACKAGES, "explainable", "interpret")
    assert is_allowed_package("explainable")
    assert parse_spec(DECLARATION, path="churn.yaml").candidates[0].estimator == "explainable.XGBClassifier"
    monkeypatch.setenv(PACKAGES_VARIABLE, "interpret")
    assert not is_allowed_package("explainable")


def test_entry_point_adds_a_package(install):
    install("boosting", "", code_packages={"explainable": "boosting"})
    assert allowed_packages() == (*DEFAULT_PACKAGES, "explainable")
    assert is_allowed_package("explainable")
    parse_spec(DECLARATION, path="churn.yaml")


def test_package_that_is_not_allowed_is_an_issue():
    with pytest.raises(SpecError) as caught:
        parse_spec(DECLARATION, path="churn.yaml")
    (issue,) = caught.value.issues
    assert issue.path == "candidates[0].estimator"
    assert "sklearn or lightgbm" in issue.message
    assert PACKAGES_VARIABLE in issue.hint


@pytest.mark.parametrize("value", ["explainable.sklearn", "a b", "os;import"])
def test_variable_must_hold_import_names(monkeypatch, value):
    monkeypatch.setenv(PACKAGES_VARIABLE, value)
    with pytest.raises(RequestError) as caught:
        allowed_packages()
    assert (caught.value.where, caught.value.got) == (PACKAGES_VARIABLE, value)
