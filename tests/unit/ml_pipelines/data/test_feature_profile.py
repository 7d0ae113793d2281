from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from ml_pipelines.data.feature_profile import CategoryProfile, NumberProfile, dump_profiles, parse_profiles

PROFILES = {
    "plan": CategoryProfile(levels={"a": 0.5}, missing=0.25),
    "age": NumberProfile(mean=1.0, std=0.5, min=0.0, max=2.0, quantiles={"0.5": 1.0}, up_to={"0.5": 0.6}, missing=0.0),
    "empty": NumberProfile(mean=None, std=None, min=None, max=None, quantiles={}, up_to={}, missing=1.0),
}


def test_parse_profiles_reverses_dump_profiles() -> None:
    assert parse_profiles(json.loads(json.dumps(dump_profiles(PROFILES)))) == PROFILES


def test_parse_profiles_refuses_another_document() -> None:
    with pytest.raises(ValidationError):
        parse_profiles({"plan": {"levels": {"a": 0.5}}})
