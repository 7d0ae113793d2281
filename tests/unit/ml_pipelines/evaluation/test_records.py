from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from ml_pipelines.evaluation.records import Evaluation

DOCUMENT: dict[str, Any] = {
    "task": "classification",
    "metric": "roc_auc",
    "winner": "b",
    "selection": {
        "winner": "b",
        "best": "b",
        "scores": [{"candidate": "a"}, {"candidate": "b", "score": 0.5, "gap": 0.0}],
        "reason": "b has the best roc_auc",
    },
    "candidates": [
        {"candidate": name, "validation": {"roc_auc": 0.5}, "test": {"roc_auc": None}} for name in ("a", "b")
    ],
    "dummy": {"test": {"roc_auc": 0.5}},
    "rows": {"validation": 3, "test": 4},
    "intervals": {},
    "champion_intervals": {},
}


def test_evaluation_is_the_same_after_a_round_trip() -> None:
    evaluation = Evaluation.model_validate(DOCUMENT)
    assert Evaluation.model_validate(evaluation.document()) == evaluation
    assert evaluation.winner_index == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_evaluation_refuses_values_that_are_not_finite(value: float) -> None:
    with pytest.raises(ValidationError):
        Evaluation.model_validate({**DOCUMENT, "dummy": {"test": {"roc_auc": value}}})
