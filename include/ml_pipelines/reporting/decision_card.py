"""The decision of a run, as a card for the terminal and as Markdown for an approval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ml_pipelines.contracts import Comparison, Decision, Interval
from ml_pipelines.escaping import escape_markdown, visible
from ml_pipelines.ports.ledger_entry import RunDetails
from ml_pipelines.reporting.findings import findings_markdown, findings_table
from ml_pipelines.reporting.formatting import format_count, format_digest, threshold_text
from ml_pipelines.spec.custom_metric import short_name

__all__ = ["decision_card", "decision_markdown"]

_COLOURS = {
    "promoted": "green",
    "no_change": "cyan",
    "held": "yellow",
    "rejected": "yellow",
    "stopped": "red",
    "rolled_back": "magenta",
    "external_change": "magenta",
}
_MAX_METRICS = 4
_MAX_REQUIRED = 8
_MAX_SLOW_STEPS = 3
_MAX_INTERVALS_OF_ONE_ROW = 2  # of three intervals and four metrics, 80 columns have no space
_ABBREVIATIONS = {"average_precision": "avg prec", "roc_auc": "ROC-AUC", "balanced_accuracy": "bal acc"}
_CHAMPION, _DUMMY = "champion", "dummy baseline"


def decision_card(
    decision: Decision,
    details: RunDetails,
    *,
    evaluation: Mapping[str, Any] | None = None,
    steps: Sequence[tuple[str, bool, float]] = (),
    where_next: Sequence[tuple[str, str]] = (),
) -> RenderableType:
    """Return the card of a run for the terminal.

    Args:
        decision: the final decision.
        details: details of the ledger entry.
        evaluation: document of the step `evaluate`; None if the run ended before it.
        steps: label, whether the result was cached, and seconds, of each step.
        where_next: label and address or command of the next actions.
    """
    parts: list[RenderableType] = [findings_table(decision.findings)] if decision.findings else []
    parts.append(_pairs(_facts(decision, details)))
    if evaluation:
        parts.append(_metrics(decision, evaluation))
        parts.append(_selection(evaluation["selection"]))
    if decision.rules:
        parts.append(_rules(decision))
    if steps:
        parts.append(_durations(steps))
    if where_next:
        parts.append(_pairs(where_next))
    content = [_text(decision.reason), *(item for part in parts for item in (Text(), part))]
    colour, verdict = _COLOURS[decision.outcome], decision.outcome.replace("_", " ").upper()
    title = Text.assemble(_text(decision.model, "bold"), ": ", (verdict, f"bold {colour}"))
    return Panel(Group(*content), title=title, title_align="left", border_style=colour, padding=(1, 2))


def _text(text: str, style: str = "") -> Text:
    return Text(visible(text), style=style)


def _facts(decision: Decision, details: RunDetails) -> list[tuple[str, str]]:
    champion = details.champion.version if details.champion else decision.champion_version
    facts = {
        "data": _data(details),
        "rows": _rows(details),
        "defaults": "; ".join(f"{key}: {value}" for key, value in (details.defaults or {}).items()),
        "deployed": _deployed(details),
        "champion": f"version {champion}, unchanged" if champion and not details.version else None,
        "changed": f"{', '.join(details.changed)} since the champion" if details.changed else None,
        "difference": _difference(decision.comparison) if decision.comparison else None,
        "threshold": threshold_text(decision),
        "approved": f"by {details.approver}" if details.approver else None,
    }
    return [(label, text) for label, text in facts.items() if text]


def _data(details: RunDetails) -> str | None:
    pin = details.pin
    if pin is None:
        return None
    revision = f" at {pin.revision[:12]}" if pin.revision else ""
    return f"{pin.location}{revision}  {format_digest(pin.digest)}"


def _rows(details: RunDetails) -> str | None:
    rows = details.rows
    if rows is None:
        return None
    reasons = ", ".join(f"{count} {reason}" for reason, count in rows.quarantined_by_reason.items())
    counts = f"{format_count(rows.rows_in)} = {format_count(rows.kept)} kept + {format_count(rows.quarantined)}"
    return f"{counts} quarantined" + (f" ({reasons})" if reasons else "")


def _deployed(details: RunDetails) -> str | None:
    if not details.version:
        return None
    previous = f", version {details.previous_version} is @previous" if details.previous_version else ""
    if details.replaced_by:
        return f"version {details.version} was deployed, then version {details.replaced_by} replaced it"
    return f"version {details.version} is @champion{previous}"


def _difference(comparison: Comparison) -> str:
    """Return the difference between candidate and champion, positive if the candidate is better."""
    interval = comparison.interval
    bounds = f"{_confidence(interval)}: {interval.low:+.3g} to {interval.high:+.3g}, " if interval else ""
    difference = f"{comparison.difference:+.3g} {short_name(comparison.metric)} to the champion"
    return f"{difference} ({bounds}{format_count(comparison.rows)} rows)"


def _confidence(interval: Interval) -> str:
    return f"{100 * interval.confidence:g} %"


def _metrics(decision: Decision, evaluation: Mapping[str, Any]) -> Table:
    """Return the metrics of the candidates, the champion and the dummy baseline."""
    primary, names = evaluation["metric"], _metric_names(decision, evaluation)
    shown = {primary, *decision.report}
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    for name, part in ((primary, "validation"), *((name, "test") for name in names)):
        header = Text.assemble(part, "\n", _text(_ABBREVIATIONS.get(name, short_name(name))))
        table.add_column(header, justify="right", no_wrap=True)
    for candidate in evaluation["candidates"]:
        is_best = candidate["candidate"] == evaluation["winner"]
        label, validation = f"{candidate['candidate']}{' *' if is_best else ''}", candidate["validation"].get(primary)
        style = "bold" if is_best else ""
        table.add_row(_text(label), _number(validation), *_numbers(candidate["test"], names), style=style)
        if is_best:
            _add_interval(table, decision.intervals, names, shown)
    for failure in decision.failures:
        table.add_row(_text(failure.candidate), "failed", *["-"] * len(names), style="dim")
    if decision.champion_metrics:
        table.add_row(_CHAMPION, "", *_numbers(decision.champion_metrics, names), style="dim")
        _add_interval(table, decision.champion_intervals, names, shown)
    if decision.dummy_metrics:
        table.add_row(_DUMMY, "", *_numbers(decision.dummy_metrics, names), style="dim")
    return table


def _selection(selection: Mapping[str, Any]) -> RenderableType:
    """Return the scores of the candidates on the validation rows, and the reason of the choice."""
    reason = _text(f"selected: {selection['reason']}", "dim")
    if len(selection["scores"]) == 1:
        return reason
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("selection")
    for header in ("score", "std error", "gap to best", "gap error"):
        table.add_column(header, justify="right")
    for score in selection["scores"]:
        name = f"{score['candidate']}{' *' if score['candidate'] == selection['winner'] else ''}"
        table.add_row(_text(name), *_numbers(score, ("score", "standard_error", "gap", "gap_error")))
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
            "from": [_number(cell.low) if cell else "" for cell in cells],
            "to": [_number(cell.high) if cell else "" for cell in cells],
        }
    for label, bounds in rows.items():
        table.add_row(f"  {_confidence(interval)} {label}", "", *bounds, style="dim italic")


def _bounds(interval: Interval | None) -> str:
    if interval is None:
        return ""
    return f"{_number(interval.low)}{' to ' if interval.low < 0 else '-'}{_number(interval.high)}"


def _rules(decision: Decision) -> RenderableType:
    failed_text = "[yellow]hold[/]" if decision.outcome in ("held", "promoted") else "[red]fail[/]"
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("rule")
    for name in ("value", "limit"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for rule in decision.rules:
        verdict = "[green]pass[/]" if rule.passed else failed_text
        table.add_row(_text(rule.rule), _number(rule.value), _number(rule.limit), verdict)
    failed = [rule for rule in decision.rules if not rule.passed]
    # The reason at the top of the card describes the first one.
    explanations = [_text(f"{rule.rule}: {rule.detail}", "dim") for rule in failed[1:]]
    return Group(table, Text(), *explanations) if explanations else table


def _durations(steps: Sequence[tuple[str, bool, float]]) -> Text:
    cached = sum(is_cached for _, is_cached, _ in steps)
    longest = sorted(steps, key=lambda step: -step[2])[:_MAX_SLOW_STEPS]
    slowest = ", ".join(f"{label} {seconds:.1f} s" for label, _, seconds in longest)
    return _text(f"{len(steps)} steps, {cached} reused from the store; slowest: {slowest}", "dim")


def _pairs(pairs: Sequence[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for label, text in pairs:
        table.add_row(_text(label), _text(text))
    return table


def _numbers(metrics: Mapping[str, float | None], names: Sequence[str]) -> list[str]:
    return [_number(metrics.get(name)) for name in names]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    if abs(value) >= 1000:  # a size in bytes
        return f"{value:,.0f}"
    return f"{value:.2g}" if 0 < abs(value) < 0.0005 else f"{value:.3f}"


def decision_markdown(decision: Decision) -> str:
    """Return a decision as Markdown: the reason, the findings, the metrics, and the verdict of each rule."""
    headers = ["", decision.candidate or "candidate"]
    columns: list[tuple[Mapping[str, float | None], Mapping[str, Interval]]] = [(decision.metrics, decision.intervals)]
    if decision.champion_metrics:
        headers.append(f"{_CHAMPION}, version {decision.champion_version}")
        columns.append((decision.champion_metrics, decision.champion_intervals))
    headers.append(_DUMMY)
    columns.append((decision.dummy_metrics, {}))
    rows = [
        [_name(name, decision.metric), *(_with_interval(name, *column) for column in columns)]
        for name in decision.metrics
    ]
    difference = f"Difference: {_difference(decision.comparison)}" if decision.comparison else ""
    threshold = threshold_text(decision)
    parts = [
        escape_markdown(decision.reason),
        findings_markdown(decision.findings),
        escape_markdown(difference),
        escape_markdown(f"Threshold: {threshold}") if threshold else "",
        _markdown_table([escape_markdown(header) for header in headers], rows),
        _rules_markdown(decision),
    ]
    return "\n\n".join(part for part in parts if part)


def _name(name: str, metric: str | None) -> str:
    return f"**{escape_markdown(name)}**" if name == metric else escape_markdown(name)


def _rules_markdown(decision: Decision) -> str:
    rows = [
        [
            escape_markdown(rule.rule),
            _number(rule.value),
            _number(rule.limit),
            "pass" if rule.passed else f"**fail**: {escape_markdown(rule.detail)}",
        ]
        for rule in decision.rules
    ]
    return _markdown_table(["rule", "value", "limit", "verdict"], rows)


def _with_interval(name: str, metrics: Mapping[str, float | None], intervals: Mapping[str, Interval]) -> str:
    interval = intervals.get(name)
    return _number(metrics.get(name)) + (f" ({interval.low:.3f} to {interval.high:.3f})" if interval else "")


def _markdown_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
