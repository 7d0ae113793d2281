from __future__ import annotations

import pytest

from ml_pipelines_airflow.notifications.durations import format_duration


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0 s"),
        (0.04, "0 s"),
        (8.25, "8.2 s"),
        (59.4, "59 s"),
        (59.7, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (11400, "3 h 10 min"),
        (86400 * 3, "3 d"),
        (90000, "1 d 1 h"),
        (86399.9, "1 d"),
    ],
)
def test_format_duration_shows_the_two_largest_units(seconds: float, expected: str) -> None:
    assert format_duration(seconds) == expected
