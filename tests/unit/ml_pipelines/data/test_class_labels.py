from __future__ import annotations

import datetime as dt

import polars as pl
import pytest

from ml_pipelines.data.class_labels import count_labels, default_positive, match_label, similar_labels


@pytest.mark.parametrize(
    ("cells", "counts"),
    [
        (["no", "yes", "no", None], {"yes": 1, "no": 2}),
        ([1.0, 0.0, 1.0, float("nan")], {0: 1, 1: 2}),
        ([True, False, True], {False: 1, True: 2}),
        ([None, None], {}),
        ([0.5, 1.0], None),
        ([dt.date(2026, 1, 1)], None),
    ],
)
def test_labels_are_counted_from_the_rarest_on(cells, counts) -> None:
    table = pl.LazyFrame({"^y$": cells, "y": 0})
    result = count_labels(table, "^y$")
    assert result == counts
    assert list(result or {}) == list(counts or {})


@pytest.mark.parametrize(
    ("declared", "labels", "match"),
    [
        ("yes", ["no", "yes"], "yes"),
        ("YES", ["no", "yes", "YES"], "YES"),
        ("Yes", ["no", "yes"], "yes"),
        (1, ["0", "1"], "1"),
        ("1", [0, 1], 1),
        (True, ["True", "False"], "True"),
        ("maybe", ["no", "yes"], None),
    ],
)
def test_a_declared_label_matches_by_its_text(declared, labels, match) -> None:
    result = match_label(declared, labels)
    assert (result, type(result)) == (match, type(match))


@pytest.mark.parametrize(
    ("counts", "positive"),
    [
        ({0: 1, 1: 5}, 1),
        ({1: 1, 0: 5}, 1),
        ({True: 9, False: 10}, True),
        ({"yes": 3, "no": 9}, "yes"),
        ({"no": 3, "yes": 9}, "no"),
        ({"no": 3, "yes": 3}, "yes"),
        ({-1: 2, 1: 9}, -1),
        ({"a": 1, "b": 2, "c": 3}, None),
        ({"a": 1}, None),
    ],
)
def test_the_default_positive_label_is_one_or_true_or_the_rarer_one(counts, positive) -> None:
    assert default_positive(counts) == positive


@pytest.mark.parametrize(
    ("labels", "groups"),
    [
        (["yes", "YES", "no"], [["yes", "YES"]]),
        (["yes", "yes ", "no", "no."], [["yes", "yes "], ["no", "no."]]),
        (["not left", "not_left", "Not-Left"], [["not left", "not_left", "Not-Left"]]),
        (["A", "A+", "A-", "B"], [["A", "A-"]]),
        (["yes", "no", "unknown"], []),
        ([1, -1], []),
    ],
)
def test_similar_labels_differ_in_case_blanks_and_dots(labels, groups) -> None:
    assert similar_labels(labels) == groups
