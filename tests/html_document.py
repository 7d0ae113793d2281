"""A small document model of HTML pages, for tests of their content."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = {"br", "col", "hr", "link", "meta"}


@dataclass
class Element:
    """An element of a page with its attributes, child elements, and texts."""

    tag: str
    attributes: dict[str, str | None] = field(default_factory=dict)
    children: list[Element] = field(default_factory=list)
    parts: list[str | Element] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text of the element and of all elements within it, with single spaces."""
        raw = " ".join(part if isinstance(part, str) else part.text for part in self.parts)
        return " ".join(raw.split())

    @property
    def classes(self) -> set[str]:
        """The classes of the element."""
        return set((self.attributes.get("class") or "").split())

    def all(self, tag: str = "", **attributes: str) -> list[Element]:
        """Return all elements within this one, optionally of a tag and with attribute values."""
        matches: list[Element] = []
        for child in self.children:
            wanted = all(child.attributes.get(name) == value for name, value in attributes.items())
            if tag in ("", child.tag) and wanted:
                matches.append(child)
            matches += child.all(tag, **attributes)
        return matches

    def one(self, tag: str, **attributes: str) -> Element:
        """Return the only matching element."""
        (match,) = self.all(tag, **attributes)
        return match

    def texts(self, tag: str, **attributes: str) -> list[str]:
        """Return the texts of all matching elements."""
        return [element.text for element in self.all(tag, **attributes)]


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Element("document")
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._add(tag, attrs)
        if tag not in _VOID:
            self.open.append(self.open[-1].children[-1])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._add(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.open[-1].parts.append(data)

    def _add(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs))
        self.open[-1].children.append(element)
        self.open[-1].parts.append(element)


def parse_html(page: str) -> Element:
    """Return the document of a page. Fails if the tags are not closed in order."""
    parser = _Parser()
    parser.feed(page)
    parser.close()
    assert parser.open == [parser.root], f"not closed: {[element.tag for element in parser.open[1:]]}"
    return parser.root
