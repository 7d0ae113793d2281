"""Text of durations in messages."""

from __future__ import annotations

__all__ = ["format_duration"]

_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def format_duration(seconds: float) -> str:
    """Return a duration in its two largest units, such as `3 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{round(seconds, 1) if seconds < 10 else whole:g} s"
    position = next(position for position, (_, length) in enumerate(_UNITS) if whole >= length)
    (large, large_length), (small, small_length) = _UNITS[position], _UNITS[position + 1]
    rest = whole % large_length // small_length
    return f"{whole // large_length} {large} {rest} {small}" if rest else f"{whole // large_length} {large}"
