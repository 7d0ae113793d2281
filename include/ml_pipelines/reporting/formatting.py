"""How outcomes, numbers, times and sizes are written for people; the same in the report and in the web pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml_pipelines.spec.metrics import find_metric

__all__ = [
    "NOTHING",
    "OUTCOMES",
    "digest",
    "direction",
    "duration",
    "interval",
    "metric_name",
    "number",
    "percent",
    "size",
    "tone",
]

OUTCOMES = {
    "promoted": "Promoted",
    "held": "Held",
    "rejected": "Rejected",
    "no_change": "No change",
    "stopped": "Stopped",
    "rolled_back": "Rolled back",
    "external_change": "External change",
}
"""What an outcome is called."""

NOTHING = "\N{EN DASH}"
"""Stands where there is no figure."""

_TONES = {"promoted": "good", "no_change": "calm", "held": "wait", "rejected": "wait", "stopped": "bad"}
_UNITS = ("B", "kB", "MB", "GB", "TB")


def tone(outcome: str) -> str:
    """The colour of an outcome, as a class of the style sheet."""
    return _TONES.get(outcome, "calm")


def metric_name(metric: str) -> str:
    """A metric's name in a sentence or a table."""
    row = find_metric(metric)
    return row.label if row else metric.replace("_", " ").capitalize()


def direction(metric: str) -> str:
    """Which way is better; empty for a metric that is not known."""
    row = find_metric(metric)
    return "" if row is None else "higher is better" if row.greater_is_better else "lower is better"


def number(value: float | None) -> str:
    """A figure with as many digits as tell something."""
    if value is None:
        return NOTHING
    size = abs(value)
    if isinstance(value, int) or size >= 1000:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.2f}"
    return f"{value:.4f}" if size >= 0.001 or not size else f"{value:.2g}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share of the whole."""
    return NOTHING if share is None else f"{share:.{digits}%}"


def interval(found: Mapping[str, Any] | None) -> str:
    """Lower and upper bound of a contract `Interval`; empty if there is none."""
    return f"{number(found['low'])} to {number(found['high'])}" if found else ""


def size(count: float | None) -> str:
    """A number of bytes."""
    if count is None:
        return NOTHING
    for unit in _UNITS[:-1]:
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} {_UNITS[-1]}"


def duration(seconds: float) -> str:
    """How long something took."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def digest(value: str | None) -> str:
    """The beginning of a digest such as `md5:0123...`, which is enough to tell it apart."""
    algorithm, _, digits = (value or "").rpartition(":")
    return f"{algorithm}:{digits[:12]}" if algorithm else digits[:12]
