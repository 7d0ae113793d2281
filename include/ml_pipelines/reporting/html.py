"""HTML as typed values: what is not marked as HTML is escaped, so that a column's name can't become a tag."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

__all__ = ["Child", "Html", "clipped", "element", "join", "text"]

_NOT_IN_HTML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_VOID = frozenset({"br", "circle", "col", "hr", "line", "link", "meta", "path", "polyline", "rect"})
_LONGEST = 120


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()

    def __html__(self) -> str:  # what jinja2 asks a value that brings its own markup
        return self


Child = Html | str | int | float | None


def text(value: object) -> Html:
    """A value as text of a page; characters that a page may not hold are shown as a replacement character."""
    return Html(html.escape(_NOT_IN_HTML.sub("\N{REPLACEMENT CHARACTER}", str(value))))


def clipped(value: object, longest: int = _LONGEST) -> str:
    """The beginning of a text that may be of any length."""
    whole = str(value)
    return whole if len(whole) <= longest else f"{whole[: longest - 1]}…"


def join(children: Iterable[Child]) -> Html:
    """Pieces one after the other; None is left out."""
    return Html("".join(child if isinstance(child, Html) else text(child) for child in children if child is not None))


def element(tag: str, *children: Child, **attributes: str | float | bool | None) -> Html:
    """An element. An attribute `class_` is written `class`, `stroke_width` is `stroke-width`; None is left out."""
    told = "".join(
        f" {_name(name)}" if value is True else f' {_name(name)}="{text(value)}"'
        for name, value in attributes.items()
        if value is not None and value is not False
    )
    if tag in _VOID:
        return Html(f"<{tag}{told}/>")
    return Html(f"<{tag}{told}>{join(children)}</{tag}>")


def _name(attribute: str) -> str:
    return attribute.rstrip("_").replace("_", "-")
