"""The parts of a report as values. The templates turn them into HTML and escape all texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ml_pipelines.contracts import Finding
from ml_pipelines.reporting.findings import SEVERITIES
from ml_pipelines.reporting.svg import Figure

__all__ = [
    "Annotated",
    "Badge",
    "Block",
    "Cell",
    "Code",
    "Details",
    "Facts",
    "Figures",
    "Findings",
    "Header",
    "Link",
    "Section",
    "Table",
    "Text",
    "Tile",
    "note",
    "remaining",
    "section",
    "verdict_badge",
]

_OPEN_FINDINGS = 5
_BREAKABLE_CELL = 28  # from this length on a cell may break anywhere


@dataclass(frozen=True, slots=True)
class Badge:
    """A coloured word, such as a verdict. `tone` is a class of the style sheet."""

    text: str
    tone: str
    icon: str = ""
    kind: ClassVar[str] = "badge"


@dataclass(frozen=True, slots=True)
class Code:
    """Text in a monospaced font."""

    text: str
    kind: ClassVar[str] = "code"


@dataclass(frozen=True, slots=True)
class Link:
    """A link that opens a new tab."""

    text: str
    url: str
    kind: ClassVar[str] = "link"


@dataclass(frozen=True, slots=True)
class Annotated:
    """Text with notes below it. `style` is a class of the style sheet for the notes."""

    text: str
    notes: Sequence[str]
    style: str
    kind: ClassVar[str] = "annotated"


Cell = str | Badge | Code | Link | Annotated


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    text: str
    style: str = ""
    kind: ClassVar[str] = "text"


class Facts:
    """Labels with their values. Pairs without a value are left out.

    Args:
        pairs: label and value.
        listed: one below the other instead of side by side.
    """

    kind: ClassVar[str] = "facts"

    def __init__(self, pairs: Sequence[tuple[str, Cell | None]], *, listed: bool = False) -> None:
        self.pairs = [(label, value) for label, value in pairs if value not in (None, "")]
        self.listed = listed


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table that scrolls on a small screen. The first cell names its row.

    Attributes:
        head: names of the columns.
        rows: cells of each row.
        numeric: positions of the numeric columns.
        highlighted: position of the highlighted row; -1: none.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numeric: Sequence[int] = ()
    highlighted: int = -1
    kind: ClassVar[str] = "table"

    @property
    def is_small(self) -> bool:
        """Whether the table is narrower than the page."""
        return len(self.numeric) >= len(self.head) - 2 and len(self.head) < 5

    def column_style(self, position: int) -> str:
        """Return the style class of a column."""
        return "num" if position in self.numeric else ""

    def cell_style(self, position: int, content: Cell) -> str:
        """Return the style class of a cell: that of its column, or that of a long text."""
        is_long = isinstance(content, str) and len(content) > _BREAKABLE_CELL
        return self.column_style(position) or ("long" if is_long else "")


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures side by side."""

    figures: Sequence[Figure]
    kind: ClassVar[str] = "figures"


@dataclass(frozen=True, slots=True)
class Details:
    """Blocks that are hidden until the reader opens them."""

    summary: str
    blocks: Sequence[Block]
    kind: ClassVar[str] = "details"


@dataclass(frozen=True, slots=True)
class Findings:
    """Findings with their remedies, the most severe first. Many warnings are hidden until the reader opens them."""

    findings: Sequence[Finding]
    kind: ClassVar[str] = "findings"

    @property
    def shown(self) -> list[tuple[Badge, Finding]]:
        """The findings that are always visible, each with the badge of its severity."""
        return [_with_badge(finding) for finding in self.findings[: self._first]]

    @property
    def folded(self) -> list[tuple[Badge, Finding]]:
        """The other findings."""
        return [_with_badge(finding) for finding in self.findings[self._first :]]

    @property
    def _first(self) -> int:
        severe = sum(finding.severity != "warn" for finding in self.findings)
        return max(severe, _OPEN_FINDINGS)


def _with_badge(finding: Finding) -> tuple[Badge, Finding]:
    severity = SEVERITIES[finding.severity]
    return Badge(severity.label, severity.tone), finding


Block = Text | Facts | Table | Figure | Figures | Details


@dataclass(frozen=True, slots=True)
class Section:
    """A titled part of a report; `id` is its anchor."""

    id: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure in large type. `series` is a class of the style sheet: `candidate`, `champion`, `dummy` or empty."""

    label: str
    value: str
    note: str
    series: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The top of a report: the verdict with its reason, the main figures, and the facts of the run."""

    model: str
    verdict: str
    tone: str
    reason: str
    facts: Facts
    tiles: Sequence[Tile] = ()
    findings: Findings | None = None


def section(name: str, title: str, *blocks: Block | None) -> Section:
    """Return a section of the blocks that are not None."""
    return Section(name, title, [block for block in blocks if block is not None])


def verdict_badge(passed: bool, *, warning: bool = False) -> Badge:
    """Return the verdict of a rule or a check, with colour, icon and word."""
    if passed:
        return Badge("pass", "good", "✓")
    return Badge("warn", "wait", "!") if warning else Badge("fail", "bad", "✕")


def note(text: str) -> Text:
    """Return a paragraph in small type."""
    return Text(text, "note")


def remaining(shown: int, total: int, noun: str) -> Text | None:
    """Return a note on the number of entries that are not shown, None if there are none."""
    return note(f"{total - shown:,} more {noun} are not shown.") if total > shown else None
