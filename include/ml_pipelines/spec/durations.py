"""Durations in declarations: `90s`, `5m`, `4h` or `1d`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PlainSerializer
from pydantic_core import PydanticCustomError

__all__ = ["Duration", "PositiveDuration", "parse_duration"]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# Up to this length a float of seconds keeps microseconds, so that a JSON round trip does not change a duration.
_MAX_DURATION = timedelta(days=365)


def parse_duration(value: Any) -> timedelta:
    """Parse `90s`, `5m`, `4h`, `1d` or a number of seconds into a timedelta from 0 to 365 days.

    Raises:
        ValueError: the value has another form or is out of range.
    """
    duration = value
    if isinstance(value, str) and (match := re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([smhd])", value.strip())):
        duration = _seconds(float(match[1]) * _UNITS[match[2]])
    elif isinstance(value, int | float) and not isinstance(value, bool):
        duration = _seconds(value)
    if isinstance(duration, timedelta) and timedelta(0) <= duration <= _MAX_DURATION:
        return duration
    raise PydanticCustomError("duration", "a duration such as 90s, 5m, 4h or 1d, at most 365d")


def _seconds(number: float) -> timedelta | None:
    return timedelta(seconds=number) if 0 <= number <= _MAX_DURATION.total_seconds() else None


def _require_positive(value: timedelta) -> timedelta:
    if not value:
        raise PydanticCustomError("duration", "a duration above 0s, such as 90s, 5m, 4h or 1d")
    return value


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(timedelta.total_seconds, return_type=float, when_used="json"),
]
PositiveDuration = Annotated[Duration, AfterValidator(_require_positive)]
