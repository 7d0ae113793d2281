from __future__ import annotations

from pathlib import Path

import pytest

from ml_pipelines.errors import SpecError
from ml_pipelines.modeling.spec_checks import find_library_issues
from ml_pipelines.spec.loader import load_spec
from ml_pipelines.spec.nested_estimators import estimator_paths, is_nested, nested_fields

PARAMS = {
    "estimators": {
        "one": {"estimator": "a.One"},
        "two": {"estimator": "b.Two", "params": {"base": {"estimator": "c.Three", "params": {"depth": 1}}}},
        "three": "drop",
    },
    "final_estimator": {"estimator": "a.One", "params": None},
    "weights": {"x": 1},
    "cv": 5,
}


def test_every_estimator_has_its_path() -> None:
    assert [(path, declared["estimator"]) for path, declared in nested_fields(PARAMS)] == [
        (("estimators", "one"), "a.One"),
        (("estimators", "two"), "b.Two"),
        (("estimators", "two", "params", "base"), "c.Three"),
        (("final_estimator",), "a.One"),
    ]
    assert estimator_paths("s.Stack", PARAMS) == ("s.Stack", "a.One", "b.Two", "c.Three")


@pytest.mark.parametrize("value", [{"estimator": 1}, {"params": {}}, "a.One", None, ["estimator"]])
def test_other_values_are_no_estimators(value: object) -> None:
    assert not is_nested(value)


DECLARATION = """\
model: {name: churn, task: classification}
data: {file: {path: a.csv}, target: label, key: id}
candidates:
  - name: stacked
    estimator: sklearn.ensemble.StackingClassifier
    params:
      estimators:
        one: {estimator: sklearn.linear_model.LogisticRegression, params: {C: 0.5}}
        two: {estimator: %s, params: {%s}}
      cv: 3
"""


@pytest.mark.parametrize(
    ("path", "params", "field", "column"),
    [
        ("os.system", "", "estimator", 26),
        ("sklearn.ensemble.RandomForest", "", "estimator", 26),
        ("sklearn.svm.SVC", "gama: 1", "params.gama", 52),
        ("sklearn.svm.SVC", "gamma: x", "params.gamma", 59),
        ("xgboost.XGBClassifier", "max_dept: 3", "params.max_dept", 58),
        ("catboost.CatBoostClassifier", "dept: 3", "params.dept", 64),
    ],
)
def test_an_issue_of_a_nested_estimator_has_its_place(
    tmp_path: Path, path: str, params: str, field: str, column: int
) -> None:
    file = tmp_path / "churn.yaml"
    file.write_text(DECLARATION % (path, params))
    with pytest.raises(SpecError) as caught:
        load_spec(file, rules=find_library_issues)
    (issue,) = caught.value.issues
    assert issue.path == f"candidates[0].params.estimators.two.{field}"
    assert (issue.line, issue.column) == (9, column)
