from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from ml_pipelines.spec.cross_field_rules import check_training
from ml_pipelines.spec.threshold import Threshold


@pytest.mark.parametrize(
    ("declared", "objective"),
    [
        ({"maximise": "f1"}, "f1"),
        ({"maximise": "recall", "at_least": {"precision": 0.9}}, "recall with precision of at least 0.9"),
        (
            {"minimise_cost": {"false_positive": 1, "false_negative": 5}},
            "mean cost, 1 a false positive and 5 a false negative",
        ),
    ],
)
def test_an_objective_has_words(declared: dict[str, Any], objective: str) -> None:
    assert Threshold.model_validate(declared).objective == objective


@pytest.mark.parametrize(
    ("declared", "fact"),
    [
        ({}, "either maximise"),
        ({"maximise": "f1", "minimise_cost": {"false_positive": 1, "false_negative": 5}}, "either maximise"),
        ({"minimise_cost": {"false_positive": 1, "false_negative": 5}, "at_least": {"recall": 0.5}}, "only with"),
        ({"maximise": "f1", "at_least": {}}, "precision or recall in at_least"),
        ({"maximise": "recall"}, "minimum of precision"),
        ({"maximise": "precision", "at_least": {"precision": 0.5}}, "minimum of recall"),
        ({"minimise_cost": {"false_positive": 1}}, "false_negative"),
        ({"minimise_cost": {"false_positive": 0, "false_negative": 5}}, "greater than 0"),
        ({"maximise": "recall", "at_least": {"precision": 90}}, "less than or equal to 1"),
    ],
)
def test_an_objective_that_has_no_meaning_is_an_error(declared: dict[str, Any], fact: str) -> None:
    with pytest.raises(ValidationError, match=fact):
        Threshold.model_validate(declared)


@pytest.mark.parametrize(
    ("task", "allowed", "fact"),
    [("regression", [], "regression"), ("classification", [0, 1, 2], "allows 3"), ("classification", [0, 1], None)],
)
def test_a_threshold_is_for_two_labels(task: str, allowed: list[int], fact: str | None) -> None:
    data = {"target": "y", "columns": {"y": {"allowed": allowed}}}
    issues = check_training({"model": {"task": task}, "data": data, "threshold": {"maximise": "f1"}})
    threshold_issues = [issue for issue in issues if issue.loc == ("threshold",)]
    assert [fact in issue.message for issue in threshold_issues] == ([] if fact is None else [True])
