"""Pieces that sections are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ml_pipelines.reporting.html import Child, Html, clipped, element

__all__ = ["facts", "mark", "more", "note", "section", "table"]

_LONGEST_CELL = 600
_LONG_CELL = 28  # may be broken anywhere


def section(name: str, title: str, *content: Child) -> Html:
    """A titled part of the page that the contents link to."""
    return element("section", element("h2", title), *content, id=name)


def facts(pairs: Iterable[tuple[str, Child]], *, listed: bool = False) -> Html:
    """Labels and values, side by side or `listed` one below the other; pairs without a value are left out."""
    told = [(label, value) for label, value in pairs if value not in (None, "")]
    pieces = (element("div", element("dt", label), element("dd", value)) for label, value in told)
    return element("dl", *pieces, class_="facts listed" if listed else "facts")


def table(
    head: Sequence[str], rows: Iterable[Sequence[Child]], *, numbers: Sequence[int] = (), strong: int = -1
) -> Html:
    """A table that scrolls by itself on a small screen. The first cell of a row names it.

    Args:
        head: the columns' names.
        rows: cells of each row.
        numbers: positions of the columns that hold figures.
        strong: position of a row that stands out.
    """
    kinds = ["num" if position in numbers else None for position in range(len(head))]
    names = (element("th", name, scope="col", class_=kind) for name, kind in zip(head, kinds, strict=True))
    body = (
        element("tr", *map(_cell, range(len(head)), row, kinds), class_="strong" if position == strong else None)
        for position, row in enumerate(rows)
    )
    whole = element("table", element("thead", element("tr", *names)), element("tbody", *body))
    small = len(numbers) >= len(head) - 2 and len(head) < 5
    return element("div", whole, class_="scroll small" if small else "scroll", tabindex=0)


def _cell(place: int, content: Child, kind: str | None) -> Html:
    shown = content if isinstance(content, Html) or content is None else clipped(content, _LONGEST_CELL)
    if kind is None and not isinstance(shown, Html) and len(str(shown or "")) > _LONG_CELL:
        kind = "long"
    return element("td", shown, class_=kind) if place else element("th", shown, scope="row", class_=kind)


def mark(passed: bool, *, warning: bool = False) -> Html:
    """The verdict of a rule or a check, in colour, sign and word."""
    kind, sign, word = ("good", "✓", "pass") if passed else ("wait", "!", "warn") if warning else ("bad", "✕", "fail")
    return element("span", element("span", sign, aria_hidden="true"), f" {word}", class_=f"mark {kind}")


def note(*content: Child) -> Html:
    """A remark in small type."""
    return element("p", *content, class_="note")


def more(shown: int, all_of_them: int, what: str) -> Html | None:
    """Says how many are not shown."""
    return note(f"{all_of_them - shown:,} more {what} are not shown.") if all_of_them > shown else None
