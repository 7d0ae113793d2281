"""The metrics of an evaluation as tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ml_pipelines.contracts import Decision, Interval
from ml_pipelines.escaping import visible
from ml_pipelines.spec.custom_metric import short_name

__all__ = ["CHAMPION", "DUMMY", "format_confidence", "format_number", "metrics_table", "plain_text", "selection_table"]

_MAX_METRICS = 4
_MAX_REQUIRED = 8
_MAX_INTERVALS_OF_ONE_ROW = 2  # of three intervals and four metrics, 80 columns have no space
_ABBREVIATIONS = {"average_precision": "avg prec", "roc_auc": "ROC-AUC", "balanced_accuracy": "bal acc"}
CHAMPION, DUMMY = "champion", "dummy baseline"
"""The labels of the models that candidates are compared with."""


def plain_text(text: str, style: str = "") -> Text:
    """Return a text without markup, with control characters as escapes."""
    return Text(visible(text), style=style)


def format_confidence(interval: Interval) -> str:
    """Return the level of an interval in percent."""
    return f"{100 * interval.confidence:g} %"


def metrics_table(decision: Decision, evaluation: Mapping[str, Any]) -> Table:
    """Return the metrics of the candidates, the champion and the dummy baseline."""
    primary, names = evaluation["metric"], _metric_names(decision, evaluation)
    shown = {primary, *decision.report}
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    for name, part in ((primary, "validation"), *((name, "test") for name in names)):
        header = Text.assemble(part, "\n", plain_text(_ABBREVIATIONS.get(name, short_name(name))))
        table.add_column(header, justify="right", no_wrap=True)
    for candidate in evaluation["candidates"]:
        is_best = candidate["candidate"] == evaluation["winner"]
        label, validation = f"{candidate['candidate']}{' *' if is_best else ''}", candidate["validation"].get(primary)
        style = "bold" if is_best else ""
        table.add_row(plain_text(label), format_number(validation), *_numbers(candidate["test"], names), style=style)
        if is_best:
            _add_interval(table, decision.intervals, names, shown)
    for failure in decision.failures:
        table.add_row(plain_text(failure.candidate), "failed", *["-"] * len(names), style="dim")
    if decision.champion_metrics:
        table.add_row(CHAMPION, "", *_numbers(decision.champion_metrics, names), style="dim")
        _add_interval(table, decision.champion_intervals, names, shown)
    if decision.dummy_metrics:
        table.add_row(DUMMY, "", *_numbers(decision.dummy_metrics, names), style="dim")
    return table


def selection_table(selection: Mapping[str, Any]) -> RenderableType:
    """Return the scores of the candidates on the validation rows, and the reason of the choice."""
    reason = plain_text(f"selected: {selection['reason']}", "dim")
    if len(selection["scores"]) == 1:
        return reason
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("selection")
    for header in ("score", "std error", "gap to best", "gap error"):
        table.add_column(header, justify="right")
    for score in selection["scores"]:
        name = f"{score['candidate']}{' *' if score['candidate'] == selection['winner'] else ''}"
        table.add_row(plain_text(name), *_numbers(score, ("score", "standard_error", "gap", "gap_error")))
    return Group(table, reason)


def _metric_names(decision: Decision, evaluation: Mapping[str, Any]) -> list[str]:
    """Return the primary metric, those with a rule and those of `gate.report`, then others, as columns have space."""
    metrics = evaluation["dummy"]["test"]
    with_rule = [rule.rule.removeprefix("threshold ") for rule in decision.rules]
    names = [evaluation["metric"], *(name for name in with_rule if name in metrics), *decision.report]
    required = list(dict.fromkeys(names))
    return list(dict.fromkeys([*required, *metrics]))[: max(_MAX_METRICS, min(len(required), _MAX_REQUIRED))]


def _add_interval(table: Table, intervals: Mapping[str, Interval], names: Sequence[str], shown: set[str]) -> None:
    """Add the intervals of the primary metric and of those of `gate.report`: in one row, or in two if they are many."""
    interval = intervals.get(names[0])
    if interval is None:
        return
    cells = [intervals.get(name) if name in shown else None for name in names]
    if len(shown) <= _MAX_INTERVALS_OF_ONE_ROW:
        rows = {"interval": [_bounds(cell) for cell in cells]}
    else:
        rows = {
            "from": [format_number(cell.low) if cell else "" for cell in cells],
            "to": [format_number(cell.high) if cell else "" for cell in cells],
        }
    for label, bounds in rows.items():
        table.add_row(f"  {format_confidence(interval)} {label}", "", *bounds, style="dim italic")


def _bounds(interval: Interval | None) -> str:
    if interval is None:
        return ""
    return f"{format_number(interval.low)}{' to ' if interval.low < 0 else '-'}{format_number(interval.high)}"


def _numbers(metrics: Mapping[str, float | None], names: Sequence[str]) -> list[str]:
    return [format_number(metrics.get(name)) for name in names]


def format_number(value: float | None) -> str:
    """Return a metric with its significant digits; a dash without a value."""
    if value is None:
        return "-"
    if abs(value) >= 1000:  # a size in bytes
        return f"{value:,.0f}"
    return f"{value:.2g}" if 0 < abs(value) < 0.0005 else f"{value:.3f}"
