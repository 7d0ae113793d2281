from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_pipelines.data.drift import LARGE_DRIFT, MODERATE_DRIFT, FeatureDrift, compare_profiles
from ml_pipelines.data.feature_profile import FeatureProfile
from ml_pipelines.data.profile import profile_column


def numbers(values: Any) -> FeatureProfile:
    return profile_column(pd.Series(np.asarray(values, dtype=float)), "float")


def words(values: list[str | None]) -> FeatureProfile:
    return profile_column(pd.Series(values, dtype=object), "string")


def index(reference: FeatureProfile, current: FeatureProfile) -> float | None:
    return compare_profiles({"x": reference}, {"x": current})[0].index


def test_the_index_of_equal_profiles_is_zero() -> None:
    normal = numbers(np.random.default_rng(0).normal(size=1000))
    assert index(normal, normal) == 0
    assert index(words(["a", "b", None]), words(["a", "b", None])) == pytest.approx(0)


def test_the_index_of_whole_numbers_does_not_depend_on_the_position_of_the_deciles() -> None:
    reference = np.repeat([0, 1, 2, 3, 4], [90, 130, 75, 45, 29])  # the 0.8 quantile lies between 2 and 3
    current = np.repeat([0, 1, 2, 3, 4], [130, 197, 118, 67, 44])
    value = index(numbers(reference), numbers(current))
    assert value is not None
    assert value < 0.01


def test_the_index_is_low_for_the_same_distribution_and_high_for_a_shifted_one() -> None:
    rng = np.random.default_rng(1)
    reference = numbers(rng.normal(size=5000))
    assert index(reference, numbers(rng.normal(size=5000))) < MODERATE_DRIFT / 5
    assert index(reference, numbers(rng.normal(1.0, size=5000))) > LARGE_DRIFT


def test_the_index_is_close_to_that_of_the_rows_in_the_bins_of_the_reference() -> None:
    rng = np.random.default_rng(2)
    old, new = rng.normal(size=4000), rng.normal(0.3, 1.2, size=4000)
    edges = [-np.inf, *np.quantile(old, np.arange(1, 10) / 10), np.inf]
    a, b = (np.histogram(values, edges)[0] / len(values) for values in (old, new))
    assert index(numbers(old), numbers(new)) == pytest.approx(((b - a) * np.log(b / a)).sum(), rel=0.15)


def test_the_index_is_low_for_whole_numbers_with_many_ties() -> None:
    rng = np.random.default_rng(3)
    assert index(numbers(rng.poisson(4, 5000)), numbers(rng.poisson(4, 5000))) < 0.01


def test_the_index_of_two_levels_is_exact() -> None:
    reference, current = words(["a"] * 50 + ["b"] * 50), words(["a"] * 80 + ["b"] * 20)
    assert index(reference, current) == pytest.approx(0.3 * math.log(0.8 / 0.5) - 0.3 * math.log(0.2 / 0.5))


def test_the_index_is_high_for_a_new_level_and_for_new_missing_cells() -> None:
    reference = words(["a"] * 100)
    assert index(reference, words(["a"] * 70 + ["new"] * 30)) > LARGE_DRIFT
    assert index(reference, words(["a"] * 70 + [None] * 30)) > LARGE_DRIFT


def test_the_index_ignores_levels_whose_share_is_unknown() -> None:
    rng = np.random.default_rng(4)
    levels = [f"level {number}" for number in range(60)]
    assert index(words(rng.choice(levels, 6000).tolist()), words(rng.choice(levels, 6000).tolist())) < MODERATE_DRIFT


def test_compare_profiles_lists_features_without_an_index_first() -> None:
    old = {"stays": numbers([1, 2, 3]), "gone": numbers([1]), "other": numbers([1, 2])}
    new = {"stays": numbers([7, 8, 9]), "new": numbers([1]), "other": words(["1", "2"])}
    drifts = compare_profiles(old, new)
    assert drifts[-1].feature == "stays"
    assert {drift.feature: drift.index for drift in drifts[:-1]} == {"gone": None, "new": None, "other": None}


def test_the_index_of_an_empty_column() -> None:
    empty, full = numbers([math.nan, math.nan]), numbers([1, 2])
    assert index(empty, empty) == 0
    assert index(empty, full) > LARGE_DRIFT
    assert index(full, empty) > LARGE_DRIFT


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50))
def test_the_index_is_never_negative(reference: list[float], current: list[float]) -> None:
    value = index(numbers(reference), numbers(current))
    assert value is not None
    assert value >= 0
    assert math.isfinite(value)


def test_feature_drift_survives_json() -> None:
    for drift in compare_profiles({"x": numbers([1, 2]), "gone": words(["a"])}, {"x": numbers([2, 3])}):
        assert FeatureDrift.model_validate(drift.model_dump(mode="json")) == drift
