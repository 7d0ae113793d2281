from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_pipelines.data.feature_profile import CategoryProfile, NumberProfile
from ml_pipelines.data.profile import profile_column, profile_features


def numbers(values: list[float]) -> NumberProfile:
    profile = profile_column(pd.Series(np.asarray(values, dtype=float)), "float")
    assert isinstance(profile, NumberProfile)
    return profile


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=40))
def test_the_quantiles_are_values_of_the_column(values: list[float]) -> None:
    profile = numbers([*values, float("nan")])
    shares = [float(share) for share in profile.quantiles]
    np.testing.assert_array_equal(list(profile.quantiles.values()), np.quantile(values, shares, method="lower"))
    assert (profile.min, profile.max) == (min(values), max(values))
    assert profile.missing == pytest.approx(1 / (len(values) + 1))
    for share, value in profile.quantiles.items():
        assert profile.up_to[share] == pytest.approx(np.mean(np.asarray(values) <= value))


@pytest.mark.parametrize("values", [[-0.0, 0.0], [0.0, -0.0]])
def test_a_negative_zero_becomes_zero(values: list[float]) -> None:
    profile = numbers(values)
    assert not np.signbit([profile.min, profile.max, *profile.quantiles.values()]).any()


def test_a_column_without_values_has_no_quantiles() -> None:
    profile = numbers([float("nan")])
    assert (profile.mean, profile.quantiles, profile.missing) == (None, {}, 1.0)


def test_the_levels_are_those_of_the_rows_and_not_of_the_type() -> None:
    levels = pd.Series(pd.Categorical(["a", "b", None, "a"], ["absent", "b", "a"]))
    assert profile_column(levels, "string") == CategoryProfile(levels={"a": 0.5, "b": 0.25}, missing=0.25)
    booleans = pd.Series([True, False, None, True], dtype="boolean")
    assert profile_column(booleans, "boolean") == CategoryProfile(levels={"True": 0.5, "False": 0.25}, missing=0.25)


def test_the_levels_are_the_most_frequent_ones() -> None:
    texts = [f"v{number:02}" for number in range(30) for _ in range(number + 1)]
    profile = profile_column(pd.Series(texts, dtype=object), "string")
    assert isinstance(profile, CategoryProfile)
    assert list(profile.levels) == [f"v{number}" for number in range(29, 9, -1)]


def test_times_count_in_days() -> None:
    days = pd.Series(pd.to_datetime([dt.datetime(1970, 1, 2), dt.datetime(1970, 1, 4)]))
    profile = profile_column(days, "date")
    assert isinstance(profile, NumberProfile)
    assert (profile.min, profile.max, profile.mean) == (1.0, 3.0, 2.0)


def test_profile_features_follows_the_dtypes_of_the_features() -> None:
    frame = pd.DataFrame({"x": [1.0, 2.0], "s": ["a", "b"]})
    features = [{"name": "s", "dtype": "string"}, {"name": "x", "dtype": "float"}]
    profiles = profile_features(frame, features)
    assert {name: type(profile) for name, profile in profiles.items()} == {"s": CategoryProfile, "x": NumberProfile}
