from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from tests.step_values import split_record

from ml_pipelines.modeling.records import TrainingRecord

DOCUMENT: dict[str, Any] = {
    "candidate": "linear",
    "estimator": "sklearn.linear_model.LogisticRegression",
    "params": {"C": 1.0},
    "task": "classification",
    "trusted_types": [],
    "requirements": ["scikit-learn==1.7"],
    "classes": [False, True],
    "positive": True,
    "rows": 10,
    "formats": {},
    "split": split_record(),
    "features": [{"name": "x", "dtype": "float", "encoding": "number"}],
    "transform": None,
    "profile": {"x": {"missing": 0.0}},
    "importances": {"x": 0.1},
    "warnings": [],
    "smoke": {"rows": [{"x": 1.0}], "predictions": [0.5], "answers": [True]},
}


def test_training_record_is_the_same_after_a_round_trip() -> None:
    record = TrainingRecord.model_validate(DOCUMENT)
    assert record.document() == DOCUMENT
    assert TrainingRecord.model_validate(record.document()) == record


@pytest.mark.parametrize(
    "change",
    [
        {"smoke": {"rows": [{"x": 1.0}], "predictions": [float("nan")], "answers": [True]}},
        {"importances": {"x": float("inf")}},
        {"features": [{"name": "x", "dtype": "complex", "encoding": "number"}]},
        {"surprise": 1},
    ],
    ids=["prediction", "importance", "dtype", "unknown field"],
)
def test_training_record_refuses_invalid_values(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TrainingRecord.model_validate({**DOCUMENT, **change})
