from __future__ import annotations

import pytest

from ml_pipelines.contracts import Interval
from ml_pipelines.reporting import formatting


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, formatting.NO_VALUE),
        (0, "0"),
        (1234567, "1,234,567"),
        (1234.5, "1,234"),
        (12.345, "12.35"),
        (0.5, "0.5000"),
        (2e-5, "2e-05"),
    ],
)
def test_format_number_limits_the_digits(value: float | None, expected: str) -> None:
    assert formatting.format_number(value) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.25, "0.2 s"), (59.9, "59.9 s"), (61, "1 min 01 s"), (3660, "1 h 01 min")]
)
def test_format_duration_shows_the_two_largest_units(seconds: float, expected: str) -> None:
    assert formatting.format_duration(seconds) == expected


@pytest.mark.parametrize(
    ("count", "expected"), [(999, "999 B"), (1234, "1.2 kB"), (5e9, "5.0 GB"), (3e15, "3,000.0 TB")]
)
def test_format_size_chooses_the_unit(count: float, expected: str) -> None:
    assert formatting.format_size(count) == expected


def test_format_interval_shows_both_bounds() -> None:
    assert formatting.format_interval(Interval(low=0.8, high=0.9, confidence=0.95)) == "0.8000 to 0.9000"
    assert formatting.format_interval(None) == ""


@pytest.mark.parametrize(
    ("value", "expected"),
    [("md5:0123456789abcdef", "md5:0123456789ab"), ("0123456789abcdef", "0123456789ab"), (None, "")],
)
def test_format_digest_keeps_algorithm_and_twelve_digits(value: str | None, expected: str) -> None:
    assert formatting.format_digest(value) == expected


def test_clip_limits_the_length() -> None:
    assert formatting.clip("abc", 3) == "abc"
    assert formatting.clip("abcd", 3) == "ab…"


def test_metric_direction_is_empty_for_an_unknown_metric() -> None:
    assert formatting.metric_direction("rmse") == "lower is better"
    assert formatting.metric_direction("profit") == ""
    assert formatting.metric_name("net_profit") == "Net profit"
