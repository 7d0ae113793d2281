from __future__ import annotations

import polars as pl
import pytest
import yaml

from ml_pipelines.data.label_checks import check_labels, check_numbers
from ml_pipelines.spec.checks import LabelsCheck


def failures(counts, positive=None):
    results = check_labels(counts, "y", positive, LabelsCheck())
    return {result.check: result for result in results if not result.passed}


def pasted(remedy):
    """The last declaration between backticks of a remedy."""
    return yaml.safe_load(next(text for text in remedy.split("`")[1::2] if text.startswith("data:")))["data"]


@pytest.mark.parametrize(
    ("counts", "positive"),
    [({0: 30, 1: 70}, None), ({"no": 30, "yes": 70}, "yes"), ({"a": 20, "b": 30, "c": 50}, None), ({1: 5, 2: 9}, 2)],
)
def test_labels_that_fit_the_declaration_are_no_finding(counts, positive) -> None:
    assert failures(counts, positive) == {}


@pytest.mark.parametrize(("counts", "positive"), [({"yes": 370, "no": 800}, "maybe"), ({0: 20, 1: 80}, "yes")])
def test_a_positive_that_is_no_label_is_an_error_with_all_labels(counts, positive) -> None:
    result = failures(counts, positive)["positive"]
    assert result.severity == "error"
    assert all(f"{label!r} ({rows} rows)" in result.detail for label, rows in counts.items())
    assert pasted(result.remedy)["positive"] in counts


@pytest.mark.parametrize("other", ["unknown", "YES", "yes ", "yes."])
def test_a_positive_among_more_than_two_labels_is_an_error_with_all_labels(other) -> None:
    counts = {other: 30, "yes": 370, "no": 800}
    result = failures(counts, "yes")["positive"]
    assert result.severity == "error"
    assert all(f"{label!r} ({rows} rows)" in result.detail for label, rows in counts.items())
    assert pasted(result.remedy)["columns"]["y"] == {
        "type": "string",
        "allowed": ["no", "yes"],
        "on_fail": "quarantine",
    }
    assert ("differ only in case" in result.remedy) == (other != "unknown")


def test_two_labels_without_a_positive_one_state_the_default() -> None:
    result = failures({"yes": 370, "no": 800})["positive"]
    assert (result.severity, pasted(result.remedy)) == ("warn", {"positive": "yes"})


@pytest.mark.parametrize(
    ("counts", "severity"),
    [({"YES": 30, "yes": 370, "no": 800}, "hold"), ({"A": 5, "a": 5, "b": 4, "c": 9}, "warn")],
)
def test_labels_that_differ_in_spelling_are_a_finding(counts, severity) -> None:
    result = failures(counts)["similar_labels"]
    assert result.severity == severity
    assert all(repr(label) in result.detail for label in counts)


def test_a_target_without_labels_is_an_error() -> None:
    assert failures(None)["labels"].severity == "error"


@pytest.mark.parametrize(
    ("cells", "passed"), [([1, 2], True), ([True, False], True), (["a", "b"], False), ([1, 1], False), ([None], False)]
)
def test_a_regression_needs_different_numbers(cells, passed) -> None:
    assert check_numbers(pl.LazyFrame({"^y$": cells}), "^y$").passed == passed
