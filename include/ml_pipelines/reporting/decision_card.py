"""The decision card: what became of a run and why, for the terminal, and as Markdown for who is asked to approve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ml_pipelines.contracts import Decision, Interval

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
_SHOWN_METRICS = 4
_ABBREVIATIONS = {"average_precision": "avg prec", "roc_auc": "ROC-AUC", "balanced_accuracy": "bal acc"}


def decision_card(
    entry: dict[str, Any],
    *,
    evaluation: dict[str, Any] | None = None,
    steps: Sequence[tuple[str, bool, float]] = (),
    where_next: Sequence[tuple[str, str]] = (),
) -> RenderableType:
    """What became of a run.

    Args:
        entry: the ledger's entry.
        evaluation: the document that `evaluate` made, if the run came that far.
        steps: label, whether the result was there already, and seconds of each step.
        where_next: what to look at or do next: label and address or command.
    """
    decision, details = entry["decision"], entry["details"]
    outcome = decision["outcome"]
    parts: list[RenderableType] = [Text(decision["reason"]), Text()]
    parts.append(_facts(decision, details))
    if evaluation:
        parts += [Text(), _metrics(decision, evaluation)]
    if decision["rules"]:
        parts += [Text(), _rules(decision)]
    if steps:
        parts += [Text(), _timings(steps)]
    if where_next:
        parts += [Text(), _pairs(where_next)]
    verdict = outcome.replace("_", " ").upper()
    title = f"[bold]{escape(decision['model'])}[/bold]: [bold {_COLOURS[outcome]}]{verdict}[/]"
    return Panel(Group(*parts), title=title, title_align="left", border_style=_COLOURS[outcome], padding=(1, 2))


def _facts(decision: dict[str, Any], details: dict[str, Any]) -> Table:
    pin, rows = details.get("pin") or {}, details.get("rows") or {}
    facts = []
    if pin:
        revision = f" at {pin['revision'][:12]}" if pin.get("revision") else ""
        facts.append(("data", f"{pin['location']}{revision}  {_short(pin.get('digest'))}"))
    if rows:
        aside = ", ".join(f"{count} {reason}" for reason, count in (rows.get("quarantined_by_reason") or {}).items())
        kept = f"{rows['rows_in']:,} = {rows['kept']:,} kept + {rows['quarantined']:,} quarantined"
        facts.append(("rows", kept + (f" ({aside})" if aside else "")))
    if details.get("version"):
        before = details.get("previous_version")
        facts.append(
            (
                "registered",
                f"version {details['version']} is @champion" + (f", version {before} is @previous" if before else ""),
            )
        )
    elif version := (details.get("champion") or {}).get("version") or decision.get("champion_version"):
        facts.append(("champion", f"version {version} keeps serving"))
    if changed := details.get("changed"):
        facts.append(("changed", f"{', '.join(changed)} since the champion"))
    if compared := decision.get("comparison"):
        facts.append(("difference", _difference(compared)))
    if details.get("approver"):
        facts.append(("approved", f"by {details['approver']}"))
    return _pairs(facts)


def _difference(compared: dict[str, Any]) -> str:
    """Candidate beside champion: positive is better."""
    found = compared["interval"]
    bounds = f"{100 * found['confidence']:g} %: {found['low']:+.3g} to {found['high']:+.3g}, " if found else ""
    return f"{compared['difference']:+.3g} {compared['metric']} to the champion ({bounds}{compared['rows']:,} rows)"


def _short(digest: str | None) -> str:
    algorithm, _, value = (digest or "").partition(":")
    return f"{algorithm}:{value[:12]}" if value else ""


def _metrics(decision: dict[str, Any], evaluation: dict[str, Any]) -> Table:
    primary = evaluation["metric"]
    judged = [rule["rule"].removeprefix("threshold ") for rule in decision["rules"]]
    known = evaluation["dummy"]["test"]
    names = list(dict.fromkeys([primary, *(name for name in judged if name in known), *known]))[:_SHOWN_METRICS]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    for name, part in ((primary, "validation"), *((name, "test") for name in names)):
        table.add_column(f"{part}\n{_ABBREVIATIONS.get(name, name)}", justify="right", no_wrap=True)
    for candidate in evaluation["candidates"]:
        chosen = candidate["candidate"] == evaluation["winner"]
        table.add_row(
            f"{candidate['candidate']}{' *' if chosen else ''}",
            _number(candidate["validation"].get(primary)),
            *(_number(candidate["test"].get(name)) for name in names),
            style="bold" if chosen else "",
        )
        if chosen:
            _bounds(table, decision.get("intervals"), primary)
    others = {"today's champion": decision["champion_metrics"], "learned nothing": decision["dummy_metrics"]}
    for label, metrics in others.items():
        if metrics:
            table.add_row(label, "", *(_number(metrics.get(name)) for name in names), style="dim")
        if label == "today's champion":
            _bounds(table, decision.get("champion_intervals"), primary)
    return table


def _bounds(table: Table, intervals: dict[str, Any] | None, primary: str) -> None:
    """A row with where the primary metric above it lies: more do not fit beside each other."""
    if found := (intervals or {}).get(primary):
        bounds = f"{found['low']:.3f}-{found['high']:.3f}"
        table.add_row(f"  {100 * found['confidence']:g} % interval", "", bounds, style="dim italic")


def _rules(decision: dict[str, Any]) -> RenderableType:
    rules = decision["rules"]
    failing = "[yellow]hold[/]" if decision["outcome"] in ("held", "promoted") else "[red]fail[/]"
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("rule")
    for name in ("value", "limit"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for rule in rules:
        verdict = "[green]pass[/]" if rule["passed"] else failing
        table.add_row(Text(rule["rule"]), _number(rule["value"]), _number(rule["limit"]), verdict)
    # The first is told at the top.
    more = [Text(f"{rule['rule']}: {rule['detail']}", style="dim") for rule in rules if not rule["passed"]][1:]
    return Group(table, Text(), *more) if more else table


def _timings(steps: Sequence[tuple[str, bool, float]]) -> Text:
    reused = sum(cached for _, cached, _ in steps)
    slowest = ", ".join(
        f"{label} {seconds:.1f} s" for label, _, seconds in sorted(steps, key=lambda step: -step[2])[:3]
    )
    return Text(f"{len(steps)} steps, {reused} reused from the store; slowest: {slowest}", style="dim")


def _pairs(pairs: Sequence[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for label, text in pairs:
        table.add_row(label, Text(text))
    return table


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    if abs(value) >= 1000:  # bytes
        return f"{value:,.0f}"
    return f"{value:.2g}" if 0 < abs(value) < 0.0005 else f"{value:.3f}"


def decision_markdown(decision: Decision) -> str:
    """A decision as Markdown: why, the models side by side, and each rule with its verdict."""
    headers = ["", decision.candidate or "candidate"]
    columns = [(decision.metrics, decision.intervals)]
    if decision.champion_metrics:
        headers.append(f"champion, version {decision.champion_version}")
        columns.append((decision.champion_metrics, decision.champion_intervals))
    headers.append("learned nothing")
    columns.append((decision.dummy_metrics, {}))
    rows = [
        [f"**{name}**" if name == decision.metric else name, *(_measured(name, *column) for column in columns)]
        for name in decision.metrics
    ]
    rules = [
        [rule.rule, _number(rule.value), _number(rule.limit), "pass" if rule.passed else f"**no**: {rule.detail}"]
        for rule in decision.rules
    ]
    parts = [decision.reason, _markdown_table(headers, rows), _markdown_table(["rule", "value", "limit", ""], rules)]
    if decision.comparison:
        parts.insert(1, f"Difference: {_difference(decision.comparison.model_dump())}")
    return "\n\n".join(parts)


def _measured(name: str, metrics: dict[str, float | None], intervals: dict[str, Interval]) -> str:
    found = intervals.get(name)
    return _number(metrics.get(name)) + (f" ({found.low:.3f} to {found.high:.3f})" if found else "")


def _markdown_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
