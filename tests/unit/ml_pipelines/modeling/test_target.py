from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from ml_pipelines.errors import DataError
from ml_pipelines.modeling.target import extract_target


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
    ],
)
def test_extract_target_returns_labels_and_the_positive_one(
    values: list[Any], declared: Any, y: list[Any], positive: Any
) -> None:
    assert extract(values, positive=declared) == (y, positive)


def test_extract_target_of_a_regression_is_float() -> None:
    assert extract([1, 2], "regression") == ([1.0, 2.0], None)


@pytest.mark.parametrize("declared", [None, "maybe"])
def test_extract_target_lists_the_labels_if_the_positive_one_is_ambiguous(declared: str | None) -> None:
    with pytest.raises(DataError) as caught:
        extract(["no", "yes"], positive=declared)
    assert caught.value.where == "data.positive"
    assert "'no'" in caught.value.expected
    assert "'yes'" in caught.value.expected


@pytest.mark.parametrize("values", [[], [1, 1], [1, None], [0.5, 1.5]])
def test_extract_target_refuses_unusable_columns(values: list[Any]) -> None:
    with pytest.raises(DataError):
        extract(values)
