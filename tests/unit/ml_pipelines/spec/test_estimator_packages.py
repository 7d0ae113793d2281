from __future__ import annotations

import pytest

from ml_pipelines.errors import RequestError, SpecError
from ml_pipelines.spec.estimator_packages import PACKAGES_VARIABLE, allowed_packages, is_allowed_package
from ml_pipelines.spec.loader import parse_spec

DECLARATION = """\
model: {name: churn, task: classification}
data: {file: {path: a.csv}, target: label, key: id}
candidates: [{name: boosted, estimator: xgboost.XGBClassifier}]
gate: {metric: roc_auc}
"""


@pytest.fixture(autouse=True)
def no_configuration(monkeypatch):
    monkeypatch.delenv(PACKAGES_VARIABLE, raising=False)


def test_default_packages_are_allowed():
    assert allowed_packages() == ("sklearn", "lightgbm")
    assert is_allowed_package("lightgbm")
    assert not is_allowed_package("xgboost")


def test_environment_variable_adds_packages(monkeypatch):
    monkeypatch.setenv(PACKAGES_VARIABLE, " xgboost, catboost,sklearn,, ")
    assert allowed_packages() == ("sklearn", "lightgbm", "xgboost", "catboost")
    assert is_allowed_package("xgboost")
    assert parse_spec(DECLARATION, path="churn.yaml").candidates[0].estimator == "xgboost.XGBClassifier"
    monkeypatch.setenv(PACKAGES_VARIABLE, "catboost")
    assert not is_allowed_package("xgboost")


def test_entry_point_adds_a_package(install):
    install("boosting", "", estimator_packages={"xgboost": "boosting"})
    assert allowed_packages() == ("sklearn", "lightgbm", "xgboost")
    assert is_allowed_package("xgboost")
    parse_spec(DECLARATION, path="churn.yaml")


def test_package_that_is_not_allowed_is_an_issue():
    with pytest.raises(SpecError) as caught:
        parse_spec(DECLARATION, path="churn.yaml")
    (issue,) = caught.value.issues
    assert issue.path == "candidates[0].estimator"
    assert "sklearn or lightgbm" in issue.message
    assert PACKAGES_VARIABLE in issue.hint


@pytest.mark.parametrize("value", ["xgboost.sklearn", "a b", "os;import"])
def test_variable_must_hold_import_names(monkeypatch, value):
    monkeypatch.setenv(PACKAGES_VARIABLE, value)
    with pytest.raises(RequestError) as caught:
        allowed_packages()
    assert (caught.value.where, caught.value.got) == (PACKAGES_VARIABLE, value)
