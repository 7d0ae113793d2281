"""Findings of a decision for the terminal, for Markdown and for messages; the HTML report has its own component."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.table import Table
from rich.text import Text

from ml_pipelines.contracts import Finding, FindingSeverity
from ml_pipelines.escaping import escape_markdown, visible
from ml_pipelines.reporting.formatting import clip

__all__ = ["SEVERITIES", "finding_text", "findings_markdown", "findings_table"]


class _Severity(NamedTuple):
    label: str
    colour: str  # in the terminal
    tone: str  # a class of the style sheet


SEVERITIES: dict[FindingSeverity, _Severity] = {
    "error": _Severity("stop", "red", "bad"),
    "hold": _Severity("hold", "yellow", "wait"),
    "warn": _Severity("warn", "cyan", "calm"),
}
"""How a severity is shown."""

_MAX_SHOWN = 30
_MAX_NAME = 120
_MAX_TEXT = 600


def findings_table(findings: Sequence[Finding]) -> Table:
    """Return findings for the terminal: the severity, and the name with detail and remedy."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings[:_MAX_SHOWN]:
        label, colour, _ = SEVERITIES[finding.severity]
        text = Text.assemble((_name(finding), "bold"), "\n", _short(finding.detail))
        if finding.remedy:
            text.append(f"\nRemedy: {_short(finding.remedy)}", style="dim")
        table.add_row(Text(label, style=f"bold {colour}"), text)
    if more := _hidden(findings):
        table.add_row("", Text(more, style="dim"))
    return table


def findings_markdown(findings: Sequence[Finding]) -> str:
    """Return findings as a list in Markdown."""
    lines = [
        f"- **{SEVERITIES[finding.severity].label}** {escape_markdown(finding_text(finding))}"
        for finding in findings[:_MAX_SHOWN]
    ]
    more = _hidden(findings)
    return "\n".join([*lines, *([f"- {more}"] if more else [])])


def finding_text(finding: Finding) -> str:
    """Return a finding as one line of plain text, without its severity."""
    remedy = f" Remedy: {_short(finding.remedy)}" if finding.remedy else ""
    return f"{_name(finding)}. {_short(finding.detail).rstrip('.')}.{remedy}"


def _name(finding: Finding) -> str:
    return visible(clip(finding.name, _MAX_NAME))


def _short(text: str) -> str:
    return visible(clip(text, _MAX_TEXT))


def _hidden(findings: Sequence[Finding]) -> str:
    more = len(findings) - _MAX_SHOWN
    return f"and {more} more findings; the report of the run lists them" if more > 0 else ""
