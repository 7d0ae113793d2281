"""Numbers in words."""

from __future__ import annotations

__all__ = ["format_duration"]


def format_duration(seconds: float) -> str:
    """A length of time in its two largest units: `3 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{round(seconds, 1) if seconds < 10 else whole:g} s"
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    place = next(place for place, (_, length) in enumerate(units) if whole >= length)
    (large, length), (small, part) = units[place], units[place + 1]
    rest = whole % length // part
    return f"{whole // length} {large} {rest} {small}" if rest else f"{whole // length} {large}"
