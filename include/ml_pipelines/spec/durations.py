"""Durations as people write them: `90s`, `5m`, `4h` or `1d`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PlainSerializer
from pydantic_core import PydanticCustomError

__all__ = ["Duration", "PositiveDuration", "parse_duration"]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# Up to here a number of seconds tells microseconds apart, so that a duration is the same after a JSON round trip.
_LONGEST = timedelta(days=365)


def parse_duration(value: Any) -> timedelta:
    """`90s`, `5m`, `4h`, `1d` or a number of seconds, as a timedelta from 0s to 365 days.

    Raises:
        ValueError: it is anything else; the text says what is expected.
    """
    found = value
    if isinstance(value, str) and (match := re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([smhd])", value.strip())):
        found = _seconds(float(match[1]) * _UNITS[match[2]])
    elif isinstance(value, int | float) and not isinstance(value, bool):
        found = _seconds(value)
    if isinstance(found, timedelta) and timedelta(0) <= found <= _LONGEST:
        return found
    raise PydanticCustomError("duration", "a duration such as 90s, 5m, 4h or 1d, at most 365d")


def _seconds(number: float) -> timedelta | None:
    return timedelta(seconds=number) if 0 <= number <= _LONGEST.total_seconds() else None


def _not_zero(value: timedelta) -> timedelta:
    if not value:
        raise PydanticCustomError("duration", "a duration above 0s, such as 90s, 5m, 4h or 1d")
    return value


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(timedelta.total_seconds, return_type=float, when_used="json"),
]
PositiveDuration = Annotated[Duration, AfterValidator(_not_zero)]
