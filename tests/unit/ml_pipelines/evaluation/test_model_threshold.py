from __future__ import annotations

import polars as pl
import pytest

from ml_pipelines.errors import DataError
from ml_pipelines.evaluation.model_threshold import require_two_labels, tune_model
from ml_pipelines.spec.threshold import Threshold

F1 = Threshold(maximise="f1")


def test_a_threshold_needs_two_labels() -> None:
    require_two_labels(F1, "label", 2)
    require_two_labels(None, "label", 3)
    with pytest.raises(DataError) as error:
        require_two_labels(F1, "label", 3)
    assert error.value.where == "threshold"
    assert "3 labels" in str(error.value)


def test_a_threshold_needs_validation_rows() -> None:
    with pytest.raises(DataError, match="validation"):
        tune_model(None, {}, F1, validation=pl.LazyFrame({"label": []}), label="label")


def test_without_a_declaration_the_model_stays() -> None:
    model = object()
    assert tune_model(model, {}, None, validation=None, label="label") == (model, None)
