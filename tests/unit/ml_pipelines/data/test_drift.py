from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_pipelines.data.drift import LARGE_DRIFT, MODERATE_DRIFT, compare_profiles
from ml_pipelines.data.profile import profile_column


def numbers(values: Any) -> dict[str, Any]:
    return profile_column(pd.Series(np.asarray(values, dtype=float)), "float")


def words(values: list[str | None]) -> dict[str, Any]:
    return profile_column(pd.Series(values, dtype=object), "string")


def index(then: dict[str, Any], now: dict[str, Any]) -> float | None:
    return compare_profiles({"x": then}, {"x": now})[0].index


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=40))
def test_the_quantiles_of_a_profile_are_values_that_are_there(values: list[float]) -> None:
    told = numbers([*values, float("nan")])
    shares = [float(share) for share in told["quantiles"]]
    np.testing.assert_array_equal(list(told["quantiles"].values()), np.quantile(values, shares, method="lower"))
    assert (told["min"], told["max"]) == (min(values), max(values))


@pytest.mark.parametrize("values", [[-0.0, 0.0], [0.0, -0.0]])
def test_a_profile_knows_one_zero(values: list[float]) -> None:
    told = numbers(values)
    assert not np.signbit([told["min"], told["max"], *told["quantiles"].values()]).any()


def test_levels_of_a_profile_are_texts_that_a_row_has_whatever_the_column_is_of() -> None:
    some = pd.Series(pd.Categorical(["a", "b", None, "a"], ["absent", "b", "a"]))
    assert profile_column(some, "string") == words(["a", "b", None, "a"])
    told = profile_column(pd.Series([True, False, None, True], dtype="boolean"), "boolean")
    assert told == {"levels": {"True": 0.5, "False": 0.25}, "missing": 0.25}


def test_the_same_rows_have_not_moved() -> None:
    normal = numbers(np.random.default_rng(0).normal(size=1000))
    assert index(normal, normal) == 0
    assert index(words(["a", "b", None]), words(["a", "b", None])) == pytest.approx(0)


def test_whole_numbers_that_have_not_moved_are_stable_wherever_their_deciles_lie() -> None:
    then = np.repeat([0, 1, 2, 3, 4], [90, 130, 75, 45, 29])  # the 0.8 quantile lies between 2 and 3
    now = np.repeat([0, 1, 2, 3, 4], [130, 197, 118, 67, 44])
    found = index(numbers(then), numbers(now))
    assert found is not None
    assert found < 0.01


def test_other_rows_of_the_same_kind_are_stable_and_moved_ones_are_told() -> None:
    rng = np.random.default_rng(1)
    then = numbers(rng.normal(size=5000))
    assert index(then, numbers(rng.normal(size=5000))) < MODERATE_DRIFT / 5
    assert index(then, numbers(rng.normal(1.0, size=5000))) > LARGE_DRIFT


def test_the_index_is_that_of_the_rows_in_the_bins_of_the_earlier_training() -> None:
    rng = np.random.default_rng(2)
    old, new = rng.normal(size=4000), rng.normal(0.3, 1.2, size=4000)
    edges = [-np.inf, *np.quantile(old, np.arange(1, 10) / 10), np.inf]
    a, b = (np.histogram(values, edges)[0] / len(values) for values in (old, new))
    assert index(numbers(old), numbers(new)) == pytest.approx(((b - a) * np.log(b / a)).sum(), rel=0.15)


def test_whole_numbers_that_are_often_equal_do_not_seem_to_move() -> None:
    rng = np.random.default_rng(3)
    assert index(numbers(rng.poisson(4, 5000)), numbers(rng.poisson(4, 5000))) < 0.01


def test_of_two_levels_the_shares_are_exact() -> None:
    then, now = words(["a"] * 50 + ["b"] * 50), words(["a"] * 80 + ["b"] * 20)
    assert index(then, now) == pytest.approx(0.3 * math.log(0.8 / 0.5) - 0.3 * math.log(0.2 / 0.5))


def test_a_new_level_and_new_missing_cells_count() -> None:
    then = words(["a"] * 100)
    assert index(then, words(["a"] * 70 + ["new"] * 30)) > LARGE_DRIFT
    assert index(then, words(["a"] * 70 + [None] * 30)) > LARGE_DRIFT


def test_levels_that_a_cut_list_leaves_out_do_not_seem_to_be_gone() -> None:
    rng = np.random.default_rng(4)
    levels = [f"level {number}" for number in range(60)]
    assert index(words(rng.choice(levels, 6000).tolist()), words(rng.choice(levels, 6000).tolist())) < MODERATE_DRIFT


def test_features_that_came_went_or_changed_their_kind_are_told_first() -> None:
    old = {"stays": numbers([1, 2, 3]), "went": numbers([1]), "other": numbers([1, 2])}
    new = {"stays": numbers([7, 8, 9]), "came": numbers([1]), "other": words(["1", "2"])}
    found = compare_profiles(old, new)
    assert found[-1].feature == "stays"
    assert {each.feature: each.index for each in found[:-1]} == {"went": None, "came": None, "other": None}


def test_a_column_that_was_empty() -> None:
    empty, full = numbers([math.nan, math.nan]), numbers([1, 2])
    assert index(empty, empty) == 0
    assert index(empty, full) > LARGE_DRIFT
    assert index(full, empty) > LARGE_DRIFT


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50))
def test_the_index_is_never_negative(then: list[float], now: list[float]) -> None:
    found = index(numbers(then), numbers(now))
    assert found is not None
    assert found >= 0
    assert math.isfinite(found)
