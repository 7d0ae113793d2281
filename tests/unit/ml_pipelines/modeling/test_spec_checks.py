from __future__ import annotations

import pickle

import pytest

from ml_pipelines.errors import EstimatorError, MissingExtra
from ml_pipelines.modeling import estimators
from ml_pipelines.modeling.spec_checks import find_library_issues
from ml_pipelines.spec.yaml_source import YamlIssue


def finding(candidate: object, *, task: object = "classification") -> YamlIssue:
    good = {"name": "linear", "estimator": "sklearn.linear_model.LogisticRegression"}
    (result,) = find_library_issues({"model": {"task": task}, "candidates": [good, candidate]})
    return result


def test_an_unknown_estimator_is_wrong_where_it_is_named() -> None:
    result = finding({"name": "forest", "estimator": "sklearn.ensemble.RandomForrestClassifier"})
    assert (result.loc, result.at_key) == (("candidates", 1, "estimator"), False)
    assert result.message == (
        "there is no estimator sklearn.ensemble.RandomForrestClassifier: "
        "expected the public import path of a classifier"
    )
    assert result.hint == "did you mean sklearn.ensemble.RandomForestClassifier?"


@pytest.mark.parametrize(
    ("params", "loc", "at_key", "message"),
    [
        ({"C": 1, "max_itr": 5}, ("params", "max_itr"), True, "has no parameter 'max_itr': expected one of C, "),
        ({"max_iter": 5, "C": -1}, ("params", "C"), False, "must be a float in the range (0.0, inf]. Got -1 instead"),
    ],
)
def test_a_wrong_parameter_is_wrong_where_it_stands(
    params: dict[str, object], loc: tuple[str, ...], at_key: bool, message: str
) -> None:
    result = finding({"name": "b", "estimator": "sklearn.linear_model.LogisticRegression", "params": params})
    assert (result.loc, result.at_key) == (("candidates", 1, *loc), at_key)
    assert message in result.message


def test_an_estimator_of_the_other_task() -> None:
    result = finding({"name": "b", "estimator": "sklearn.linear_model.Ridge"})
    assert "Ridge is no classifier: expected a classifier, since model.task is classification" in result.message


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"model": 3, "candidates": 4, "data": 5},
        {"model": {"task": "guess"}, "candidates": [{"name": "a", "estimator": "sklearn.Nothing"}]},
        {"model": {"task": "regression"}, "candidates": [None, {"name": "a"}, {"name": "b", "estimator": 1}]},
        {"data": {"columns": {"a": None, "b": {"type": "string"}, "c": {"pattern": 7}, "d": {"pattern": r"\p{L}+"}}}},
    ],
)
def test_find_library_issues_accepts_valid_or_incomplete_data(data: dict[str, object]) -> None:
    assert find_library_issues(data) == []


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        ("[a-", "unclosed character class"),
        ("(?=x)x", "look-around"),
        ("a)(b", "unopened group"),
        ("(?x)a # b", "unclosed group"),
    ],
)
def test_a_pattern_is_one_that_polars_runs(pattern: str, fault: str) -> None:
    (result,) = find_library_issues({"data": {"columns": {"plan": {"type": "string", "pattern": pattern}}}})
    assert result.loc == ("data", "columns", "plan", "pattern")
    assert result.message.startswith("expected a regular expression as Rust has them, without look-around; ")
    assert fault in result.message
    assert "\n" not in result.message


def test_validate_candidates_needs_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimators, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="the package 'scikit-learn' is not installed"):
        find_library_issues({})


def test_what_is_wrong_survives_a_process_boundary() -> None:
    error = pickle.loads(pickle.dumps(EstimatorError("w", field=("params", "C"), at_key=True, fix="f")))
    assert (error.what, error.field, error.at_key, error.fix) == ("w", ("params", "C"), True, "f")
