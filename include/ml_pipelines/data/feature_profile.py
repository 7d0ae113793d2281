"""The summary of a feature that a training keeps, for the comparison with later data."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue, TypeAdapter

from ml_pipelines.contracts import Contract

__all__ = ["CategoryProfile", "FeatureProfile", "NumberProfile", "dump_profiles", "parse_profiles"]


class CategoryProfile(Contract):
    """The levels of a feature of text or booleans.

    Attributes:
        levels: share of the rows by level, the most frequent levels only.
        missing: share of the rows without a value.
    """

    levels: dict[str, float]
    missing: float


class NumberProfile(Contract):
    """The distribution of a feature of numbers or times; times count in days since 1970-01-01.

    Attributes:
        mean: of the values; None if there are none, like `std`, `min` and `max`.
        std: standard deviation of the values.
        min: smallest value.
        max: largest value.
        quantiles: value by share, such as `{"0.1": 4.0}`; empty if there are no values.
        up_to: share of the values that are at most the quantile, by the quantile's share.
        missing: share of the rows without a value.
    """

    mean: float | None
    std: float | None
    min: float | None
    max: float | None
    quantiles: dict[str, float]
    up_to: dict[str, float]
    missing: float


FeatureProfile = CategoryProfile | NumberProfile

_PROFILES: TypeAdapter[dict[str, FeatureProfile]] = TypeAdapter(dict[str, FeatureProfile])


def dump_profiles(profiles: Mapping[str, FeatureProfile]) -> dict[str, JsonValue]:
    """Return the profiles by feature as JSON for a training's record."""
    return {name: profile.model_dump(mode="json") for name, profile in profiles.items()}


def parse_profiles(document: Mapping[str, JsonValue]) -> dict[str, FeatureProfile]:
    """Return the profiles by feature from the JSON of a training's record."""
    return _PROFILES.validate_python(document)
