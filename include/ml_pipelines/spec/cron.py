"""Syntax of cron schedules: five fields of `*`, values, names, ranges, lists and steps, or a preset like `@daily`."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["CRON_EXPECTED", "cron_fault"]

CRON_EXPECTED = "five cron fields: minute, hour, day of month, month, day of week"

_PRESETS = frozenset({"@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly"})
_ITEM = re.compile(r"(?:\*|(?P<first>[0-9a-z]{1,3})(?:-(?P<last>[0-9a-z]{1,3}))?)(?:/(?P<step>[0-9]{1,3}))?")


@dataclass(frozen=True, slots=True)
class _Field:
    """One of the five: its bounds and names, what else croniter takes as an item, and whether `?` may stand for all."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    special: str = "(?!)"
    open: bool = False

    def holds(self, text: str) -> bool:
        return text in self.names or (text.isdecimal() and self.low <= int(text) <= self.high)


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)  # days of each month, February's in a leap year
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31, special="l", open=True),
    _Field("month", 1, 12, names=_MONTHS),
    _Field("day of week", 0, 7, names=_DAYS, special=rf"(?:[0-7]|{'|'.join(_DAYS)})#[1-5]|l[0-7]", open=True),
)


def cron_fault(expression: str) -> str | None:
    """What is wrong with a cron expression, such as `the hour "25" is not within 0-23`; None if nothing is."""
    if expression in _PRESETS:
        return None
    parts = expression.lower().split()
    if len(parts) != len(_FIELDS):
        return f"it has {len(parts)} {'field' if len(parts) == 1 else 'fields'}"
    for field, part in zip(_FIELDS, parts, strict=True):
        if fault := _field_fault(field, part):
            return fault
    _, _, day, month, weekday = parts
    if weekday in ("*", "?") and _never_comes(day, month):
        return f'the day of month "{day}" does not occur in the month "{month}"'
    return None


def _field_fault(field: _Field, part: str) -> str | None:
    if field.open and part == "?":
        return None
    plain = [item for item in part.split(",") if not re.fullmatch(field.special, item)]
    for item in plain:
        if not _fits(field, item):
            return f'the {field.name} "{item}" is not within {field.low}-{field.high}'
    if field.name == "day of week" and 0 < len(plain) < len(part.split(",")):
        return f'the {field.name} "{part}" mixes days of every week with days of one'
    return None


def _never_comes(day: str, month: str) -> bool:
    """Whether plain lists of days and months have no day in common, as the 31st of June."""
    if not re.fullmatch(r"[0-9,]+", day) or not re.fullmatch(r"[0-9a-z,]+", month):
        return False
    numbers = [_MONTHS.index(name) + 1 if name in _MONTHS else int(name) for name in month.split(",")]
    return min(map(int, day.split(","))) > max(_LONGEST[number - 1] for number in numbers)


def _fits(field: _Field, item: str) -> bool:
    match = _ITEM.fullmatch(item)
    if match is None or (match["step"] is not None and not 1 <= int(match["step"]) <= field.high):
        return False
    return all(field.holds(value) for value in (match["first"], match["last"]) if value is not None)
