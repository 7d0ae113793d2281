"""The decision of a run, as a card for the terminal and as Markdown for an approval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ml_pipelines.contracts import Comparison, Decision, Interval
from ml_pipelines.escaping import escape_markdown
from ml_pipelines.ports.ledger_entry import RunDetails
from ml_pipelines.reporting.findings import findings_markdown, findings_table
from ml_pipelines.reporting.formatting import fitted_rows_text, format_count, format_digest, threshold_text
from ml_pipelines.reporting.metrics_table import (
    CHAMPION,
    DUMMY,
    format_confidence,
    format_number,
    metrics_table,
    plain_text,
    selection_table,
)
from ml_pipelines.spec.custom_metric import short_name

__all__ = ["decision_card", "decision_markdown", "partial_card"]

_COLOURS = {
    "promoted": "green",
    "no_change": "cyan",
    "held": "yellow",
    "rejected": "yellow",
    "stopped": "red",
    "rolled_back": "magenta",
    "external_change": "magenta",
}
_MAX_SLOW_STEPS = 3


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
    parts = _parts(decision, _facts(decision, details), evaluation=evaluation, steps=steps, where_next=where_next)
    verdict = decision.outcome.replace("_", " ").upper()
    return _panel(decision, verdict, _COLOURS[decision.outcome], decision.reason, parts)


def partial_card(
    decision: Decision,
    details: RunDetails,
    *,
    verdict: str,
    reason: str,
    further: Sequence[tuple[str, str]],
    evaluation: Mapping[str, Any] | None = None,
    steps: Sequence[tuple[str, bool, float]] = (),
) -> RenderableType:
    """Return the card of a run that ended before its decision took effect.

    Args:
        decision: the evidence so far; its outcome and reason are not shown.
        details: details of the run so far.
        verdict: the end of the run in a few words, for the title.
        reason: the end of the run in a sentence.
        further: further facts, as label and text.
        evaluation: as for :func:`decision_card`.
        steps: as for :func:`decision_card`.
    """
    facts = [*_facts(decision, details), *further]
    parts = _parts(decision, facts, evaluation=evaluation, steps=steps)
    return _panel(decision, verdict.upper(), "cyan", reason, parts)


def _parts(
    decision: Decision,
    facts: Sequence[tuple[str, str]],
    *,
    evaluation: Mapping[str, Any] | None,
    steps: Sequence[tuple[str, bool, float]],
    where_next: Sequence[tuple[str, str]] = (),
) -> list[RenderableType]:
    parts: list[RenderableType] = [findings_table(decision.findings)] if decision.findings else []
    parts.append(_pairs(facts))
    if evaluation:
        parts.append(metrics_table(decision, evaluation))
        parts.append(selection_table(evaluation["selection"]))
    if decision.rules:
        parts.append(_rules(decision))
    if steps:
        parts.append(_durations(steps))
    if where_next:
        parts.append(_pairs(where_next))
    return parts


def _panel(decision: Decision, verdict: str, colour: str, reason: str, parts: Sequence[RenderableType]) -> Panel:
    content = [plain_text(reason), *(item for part in parts for item in (Text(), part))]
    title = Text.assemble(plain_text(decision.model, "bold"), ": ", (verdict, f"bold {colour}"))
    return Panel(Group(*content), title=title, title_align="left", border_style=colour, padding=(1, 2))


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
        "fitted on": fitted_rows_text(decision, details.parts),
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
    bounds = f"{format_confidence(interval)}: {interval.low:+.3g} to {interval.high:+.3g}, " if interval else ""
    difference = f"{comparison.difference:+.3g} {short_name(comparison.metric)} to the champion"
    return f"{difference} ({bounds}{format_count(comparison.rows)} rows)"


def _rules(decision: Decision) -> RenderableType:
    failed_text = "[yellow]hold[/]" if decision.outcome in ("held", "promoted") else "[red]fail[/]"
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("rule")
    for name in ("value", "limit"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for rule in decision.rules:
        verdict = "[green]pass[/]" if rule.passed else failed_text
        table.add_row(plain_text(rule.rule), format_number(rule.value), format_number(rule.limit), verdict)
    failed = [rule for rule in decision.rules if not rule.passed]
    # The reason at the top of the card describes the first one.
    explanations = [plain_text(f"{rule.rule}: {rule.detail}", "dim") for rule in failed[1:]]
    return Group(table, Text(), *explanations) if explanations else table


def _durations(steps: Sequence[tuple[str, bool, float]]) -> Text:
    cached = sum(is_cached for _, is_cached, _ in steps)
    longest = sorted(steps, key=lambda step: -step[2])[:_MAX_SLOW_STEPS]
    slowest = ", ".join(f"{label} {seconds:.1f} s" for label, _, seconds in longest)
    return plain_text(f"{len(steps)} steps, {cached} reused from the store; slowest: {slowest}", "dim")


def _pairs(pairs: Sequence[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for label, text in pairs:
        table.add_row(plain_text(label), plain_text(text))
    return table


def decision_markdown(decision: Decision) -> str:
    """Return a decision as Markdown: the reason, the findings, the metrics, and the verdict of each rule."""
    headers = ["", decision.candidate or "candidate"]
    columns: list[tuple[Mapping[str, float | None], Mapping[str, Interval]]] = [(decision.metrics, decision.intervals)]
    if decision.champion_metrics:
        headers.append(f"{CHAMPION}, version {decision.champion_version}")
        columns.append((decision.champion_metrics, decision.champion_intervals))
    headers.append(DUMMY)
    columns.append((decision.dummy_metrics, {}))
    rows = [
        [_name(name, decision.metric), *(_with_interval(name, *column) for column in columns)]
        for name in decision.metrics
    ]
    difference = f"Difference: {_difference(decision.comparison)}" if decision.comparison else ""
    threshold, fitted = threshold_text(decision), fitted_rows_text(decision)
    parts = [
        escape_markdown(decision.reason),
        findings_markdown(decision.findings),
        escape_markdown(difference),
        escape_markdown(f"Fitted on: {fitted}") if fitted else "",
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
            format_number(rule.value),
            format_number(rule.limit),
            "pass" if rule.passed else f"**fail**: {escape_markdown(rule.detail)}",
        ]
        for rule in decision.rules
    ]
    return _markdown_table(["rule", "value", "limit", "verdict"], rows)


def _with_interval(name: str, metrics: Mapping[str, float | None], intervals: Mapping[str, Interval]) -> str:
    interval = intervals.get(name)
    return format_number(metrics.get(name)) + (f" ({interval.low:.3f} to {interval.high:.3f})" if interval else "")


def _markdown_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
