from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from ml_pipelines.errors import DataError
from ml_pipelines.modeling.extract_target import extract_target


def extract(values: list[Any], task: Any = "classification", positive: Any = None) -> tuple[list[Any], Any]:
    y, label = extract_target(pl.DataFrame({"y": values}), "y", task=task, positive=positive)
    return y.tolist(), label


@pytest.mark.parametrize(
    ("values", "declared", "y", "positive"),
    [
        ([0, 1, 1], None, [0, 1, 1], 1),
        ([False, True], None, [False, True], True),
        ([0.0, 1.0], None, [0, 1], 1),
        (["no", "yes"], "yes", ["no", "yes"], "yes"),
        (["No", "Yes"], "yes", ["No", "Yes"], "Yes"),
        ([0, 1], 0, [0, 1], 0),
        (["a", "b", "c"], None, ["a", "b", "c"], None),
        (["no", "yes", "no"], None, ["no", "yes", "no"], "yes"),
        (["True", "true "], True, ["True", "true "], "True"),
    ],
)
def test_extract_target_returns_labels_and_the_positive_one(
    values: list[Any], declared: Any, y: list[Any], positive: Any
) -> None:
    assert extract(values, positive=declared) == (y, positive)


def test_extract_target_of_a_regression_is_float() -> None:
    assert extract([1, 2], "regression") == ([1.0, 2.0], None)


@pytest.mark.parametrize("labels", [["no", "yes"], ["no", "yes", "unknown"]])
@pytest.mark.parametrize("declared", ["maybe", "yes"])
def test_extract_target_refuses_a_positive_label_that_is_not_one_of_two(labels: list[str], declared: str) -> None:
    if (len(labels), declared) == (2, "yes"):
        return
    with pytest.raises(DataError) as caught:
        extract(labels, positive=declared)
    assert caught.value.where == "data.positive"
    assert all(repr(label) in f"{caught.value.expected} {caught.value.got}" for label in labels)


@pytest.mark.parametrize("values", [[], [1, 1], [1, None], [0.5, 1.5]])
def test_extract_target_refuses_unusable_columns(values: list[Any]) -> None:
    with pytest.raises(DataError):
        extract(values)
