"""Text of outcomes, numbers, times and sizes, used by the report and the web pages."""

from __future__ import annotations

from collections.abc import Mapping

from ml_pipelines.contracts import Decision, Interval
from ml_pipelines.spec.metric_table import find_metric

__all__ = [
    "NO_VALUE",
    "OUTCOMES",
    "clip",
    "fitted_rows_text",
    "format_count",
    "format_digest",
    "format_duration",
    "format_interval",
    "format_number",
    "format_percent",
    "format_size",
    "format_threshold",
    "metric_direction",
    "metric_name",
    "outcome_tone",
    "threshold_text",
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
"""Label of each outcome."""

NO_VALUE = "\N{EN DASH}"
"""Text of a missing value."""

_TONES = {"promoted": "good", "no_change": "calm", "held": "wait", "rejected": "wait", "stopped": "bad"}
_UNITS = ("B", "kB", "MB", "GB", "TB")


def clip(value: object, limit: int = 120) -> str:
    """Return a text of limited length, with an ellipsis for the rest."""
    text = str(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def outcome_tone(outcome: str) -> str:
    """Return the style class of an outcome's colour."""
    return _TONES.get(outcome, "calm")


def metric_name(metric: str) -> str:
    """Return the label of a metric."""
    entry = find_metric(metric)
    return entry.label if entry else metric.replace("_", " ").capitalize()


def metric_direction(metric: str) -> str:
    """Return which values of a metric are better; empty for an unknown metric."""
    entry = find_metric(metric)
    return "" if entry is None else "higher is better" if entry.greater_is_better else "lower is better"


def format_number(value: float | None) -> str:
    """Return a number with four significant decimals at most."""
    if value is None:
        return NO_VALUE
    size = abs(value)
    if isinstance(value, int) or size >= 1000:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.2f}"
    return f"{value:.4f}" if size >= 0.001 or not size else f"{value:.2g}"


def format_count(value: int) -> str:
    """Return a count with separators of thousands."""
    return f"{value:,}"


def format_percent(share: float | None, digits: int = 1) -> str:
    """Return a share between 0 and 1 in percent."""
    return NO_VALUE if share is None else f"{share:.{digits}%}"


def format_interval(interval: Interval | None) -> str:
    """Return the bounds of an interval, or an empty text without one."""
    return f"{format_number(interval.low)} to {format_number(interval.high)}" if interval else ""


def format_size(count: float | None) -> str:
    """Return a number of bytes with its unit."""
    if count is None:
        return NO_VALUE
    for unit in _UNITS[:-1]:
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} {_UNITS[-1]}"


def format_threshold(value: float | None) -> str:
    """Return a decision threshold; None is the usual one."""
    return "0.5" if value is None else f"{value:.3g}"


def fitted_rows_text(decision: Decision, parts: Mapping[str, int] | None = None) -> str | None:
    """Return the number of rows that the candidate was fitted on, and their parts; None if it is unknown.

    Args:
        decision: the decision.
        parts: number of rows of each part; None if unknown.
    """
    if decision.fitted_rows is None:
        return None
    kind = "" if not parts else "training and validation " if decision.fitted_rows > parts["train"] else "training "
    return f"{format_count(decision.fitted_rows)} {kind}rows"


def threshold_text(decision: Decision) -> str | None:
    """Return the decision thresholds of candidate and champion; None if neither is tuned."""
    if decision.threshold is None and decision.champion_threshold is None:
        return None
    text = f"{format_threshold(decision.threshold)} of the probability"
    champion = f"; champion {format_threshold(decision.champion_threshold)}" if decision.champion_metrics else ""
    return text + champion


def format_duration(seconds: float) -> str:
    """Return a duration in its two largest units."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def format_digest(value: str | None) -> str:
    """Return the first 12 digits of a digest such as `md5:0123...`, with its algorithm."""
    algorithm, _, digits = (value or "").rpartition(":")
    return f"{algorithm}:{digits[:12]}" if algorithm else digits[:12]
