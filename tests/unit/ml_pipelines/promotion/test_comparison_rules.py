"""A small version of tests/benchmarks/noise.py; the rules themselves are tested in test_gate.py."""

from __future__ import annotations

import pytest
from tests.benchmarks.noise import CASES, PAGE, Case, bounds, count, replace_table

DATA_SETS = 60


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_noise_is_promoted_as_rarely_as_the_confidence_promises(case: Case) -> None:
    """2.5 % are the law for a lift of zero; the probability of more than 8 of 60 is below 0.0001."""
    for name, counts in count(case, 300, DATA_SETS).items():
        assert counts.exceed_chance <= 8, name
        assert counts.promoted <= counts.exceed_chance, name


@pytest.mark.parametrize(
    ("name", "metrics"),
    [
        ("two labels, 50 % positive", ["roc_auc", "average_precision", "accuracy", "log_loss", "brier"]),
        ("three labels", ["roc_auc", "accuracy", "f1", "log_loss"]),
        ("normal target", ["r2", "rmse", "mae"]),
        ("trained classifier", ["roc_auc", "precision"]),
    ],
)
def test_a_planted_signal_is_promoted(name: str, metrics: list[str]) -> None:
    (case,) = (case for case in CASES if case.name == name)
    counts = count(case, 300, 10, signal=1.0, metrics=metrics)
    assert {name: number.promoted for name, number in counts.items() if number.promoted < 8} == {}


def test_bounds_of_a_rate_are_those_of_wilson() -> None:
    assert bounds(25, 1000) == pytest.approx((0.0170, 0.0366), abs=1e-4)
    assert bounds(0, 1000)[0] < 1e-9


def test_the_page_has_a_place_for_the_table() -> None:
    page = replace_table(PAGE.read_text(), ["| a |"])
    assert page.count("| a |") == 1
    assert replace_table(page, ["| a |"]) == page
