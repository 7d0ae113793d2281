"""Read YAML into plain data, with the place of every key and value.

Scalars follow YAML 1.2: only `true` and `false` are booleans, so that `no`, `NO` and `on` are text. `1e-3` is a number.
Dates are text, and keys are text. Tags and merge keys are issues. The values that an alias repeats count again towards
the limit, so that a small file can't expand without bounds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

__all__ = ["Document", "Loc", "Span", "YamlIssue", "YamlSyntaxError", "read", "split_lines"]

Loc = tuple[str | int, ...]

MAX_DEPTH = 20
MAX_VALUES = 10_000

_LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# PostgreSQL stores no null character and no half of a surrogate pair. One such text stops the update of all DAGs.
_NOT_STORED = re.compile("[\x00\ud800-\udfff]")
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")

# Part of the parser's message -> message, hint, and whether to point at the start of the construct.
_SYNTAX = {
    "mapping values are not allowed": (
        '": " where no mapping can begin',
        'put text that holds ": " in quotes, or check the indentation',
        False,
    ),
    "cannot start any token": ("text can't begin with this character", "put it in quotes", False),
    "could not find expected ':'": ('this line has no ": "', "write it as name: value", True),
    "expected node content": ("a value is missing", "write it, or close what is opened above", False),
    "',' or": ("a bracket is not closed, or a comma is missing", "close what is opened here", True),
    "end of stream": ("a quote is not closed", "close what is opened here", True),
    "expected key": ("this does not fit the lines above", "check the indentation", False),
    "'-' indicator": ("this does not fit the lines above", "check the indentation", False),
}


class Span(NamedTuple):
    """A place in the text: line and column from 1, and the number of characters."""

    line: int
    column: int
    width: int = 1


Place = Span | yaml.Event
"""A span, or the parser event that it is computed from: most files have no issue and need no spans."""


@dataclass(frozen=True, slots=True, kw_only=True)
class YamlIssue:
    """One issue of a YAML text, before its place is known.

    Attributes:
        loc: keys and positions that lead to the value.
        message: what was expected and what was found.
        hint: how to correct it; may be empty.
        at_key: whether the key is invalid, and not its value.
        span: the place, if it is not that of `loc`.
    """

    loc: Loc
    message: str
    hint: str = ""
    at_key: bool = False
    span: Span | None = None


class YamlSyntaxError(Exception):
    """The text is not valid YAML; `issue` has the reason."""

    def __init__(self, issue: YamlIssue) -> None:
        self.issue = issue
        super().__init__(issue.message)


@dataclass(slots=True)
class Document:
    """The data of a YAML text with the places of keys and values.

    Attributes:
        data: plain data: dict, list, str, int, float, bool, None.
        values: place of every value.
        keys: place of every key, by the location of its value.
        issues: issues that did not stop the reading.
    """

    data: Any = None
    values: dict[Loc, Place] = field(default_factory=dict)
    keys: dict[Loc, Place] = field(default_factory=dict)
    issues: list[YamlIssue] = field(default_factory=list)

    def span(self, loc: Loc, *, at_key: bool) -> Span:
        """Return the place of a value, or of its key if that is invalid or the value is missing or a collection."""
        value = self.data
        for depth, part in enumerate(loc):
            if loc[: depth + 1] not in self.values:  # a missing field, or something within an alias
                loc, at_key = loc[:depth], True
                break
            value = value[part]
        if at_key or value is None or isinstance(value, dict | list):
            return _span(self.keys.get(loc, self.values[loc]))
        return _span(self.values[loc])


def split_lines(text: str) -> list[str]:
    """Return the lines of a text by the line breaks of YAML, without them."""
    return _LINE_BREAK.split(text)


def read(text: str) -> Document:
    """Read one YAML document.

    Raises:
        YamlSyntaxError: the text is not YAML, has several documents, or exceeds the limits of depth and size.
    """
    if match := _UNPRINTABLE.search(text):
        before = split_lines(text[: match.start()])
        message = f"the character U+{ord(match[0]):04X} can't be part of a YAML file"
        span = Span(len(before), len(before[-1]) + 1)
        raise YamlSyntaxError(YamlIssue(loc=(), message=message, hint="remove it", span=span))
    try:
        return _Reader(text).document()
    except yaml.MarkedYAMLError as exc:
        raise YamlSyntaxError(_syntax(exc, split_lines(text))) from exc


def _syntax(exc: yaml.MarkedYAMLError, lines: list[str]) -> YamlIssue:
    explanations = (value for part, value in _SYNTAX.items() if part in (exc.problem or ""))
    message, hint, at_start = next(explanations, (str(exc.problem), "", False))
    mark = exc.context_mark if at_start and exc.context_mark else exc.problem_mark or exc.context_mark
    line, column = (mark.line, mark.column) if mark else (0, 0)
    if line < len(lines) and lines[line][column : column + 1] == "\t":
        message, hint = "a tab where only spaces may indent", "indent with spaces"
    return YamlIssue(loc=(), message=message, hint=hint, span=Span(line + 1, column + 1))


class _Reader:
    """Build a document from parser events.

    This limits depth and size; the composer of libyaml crashes the process on deep nesting.
    """

    def __init__(self, text: str) -> None:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
        self._next: Callable[[], Any] = loader.get_event
        self._document = Document()
        self._anchors: dict[str, Any] = {}
        self._count = 0

    def document(self) -> Document:
        self._next()
        if isinstance(self._next(), yaml.StreamEndEvent):
            self._document.values[()] = Span(1, 1)
            return self._document
        self._document.data = self._value(self._next(), ())
        self._next()
        if not isinstance(event := self._next(), yaml.StreamEndEvent):
            self._stop((), "a second document begins here", "remove the --- line and what follows", _span(event))
        return self._document

    def _value(self, event: Any, loc: Loc) -> Any:
        self._document.values[loc] = event
        self._grow(1, len(loc), event)
        kind = type(event)  # events have no subclasses, and a file has hundreds
        if kind is yaml.AliasEvent:
            return self._alias(event, loc)
        if event.tag is not None:
            self._report(loc, f"tags such as {_short_tag(event.tag)} are not supported", "remove it", span=_span(event))
        if kind is yaml.ScalarEvent:
            value: Any = self._scalar(event, loc)
        else:
            value = self._mapping(loc) if kind is yaml.MappingStartEvent else self._sequence(loc)
        if event.anchor is not None:
            self._anchors[event.anchor] = value
        return value

    def _mapping(self, loc: Loc) -> dict[str, Any]:
        data: dict[str, Any] = {}
        keys, following = self._document.keys, self._next
        while type(event := following()) is not yaml.MappingEndEvent:
            key = self._key(event, loc)
            child = (*loc, key)
            if key in data:
                message = f'"{key}" is a duplicate key, first on line {_span(keys[child]).line}'
                self._report(child, message, "remove one", span=_span(event), at_key=True)
                self._value(following(), (*loc, f"{key} (again)"))
            else:
                keys[child] = event
                data[key] = self._value(following(), child)
        return data

    def _key(self, event: Any, loc: Loc) -> str:
        if type(event) is not yaml.ScalarEvent:
            self._stop(loc, "a key must be plain text", "write it as name: value", _span(event))
        key: str = event.value
        self._check_characters(key, (*loc, key), event, at_key=True)
        if key == "<<" and event.implicit[0]:
            message, hint = "merge keys (<<) are not supported", "write the fields out"
            self._report((*loc, "<<"), message, hint, span=_span(event), at_key=True)
        return key

    def _sequence(self, loc: Loc) -> list[Any]:
        data: list[Any] = []
        while type(event := self._next()) is not yaml.SequenceEndEvent:
            data.append(self._value(event, (*loc, len(data))))
        return data

    def _scalar(self, event: Any, loc: Loc) -> Any:
        text = event.value
        self._check_characters(text, loc, event)
        if not event.implicit[0]:
            return text
        try:
            value = _plain(text)
        except ValueError:
            value = math.inf
        if isinstance(value, float) and not math.isfinite(value):
            self._report(loc, f"expected a finite number, got {text[:40]}", span=_span(event))
            return None
        return value

    def _check_characters(self, text: str, loc: Loc, event: Any, *, at_key: bool = False) -> None:
        if match := _NOT_STORED.search(text):
            message = f"the character U+{ord(match[0]):04X} can't be part of a text"
            self._report(loc, message, "remove it", span=_span(event), at_key=at_key)

    def _alias(self, event: Any, loc: Loc) -> Any:
        if event.anchor not in self._anchors:
            self._stop(loc, f"the alias *{event.anchor} has no anchor &{event.anchor} above", "", _span(event))
        value = self._anchors[event.anchor]
        count, height = _measure(value)
        self._grow(count, len(loc) + height, event)
        return value

    def _grow(self, count: int, depth: int, event: Any) -> None:
        self._count += count
        if depth > MAX_DEPTH:
            self._stop((), f"nested deeper than {MAX_DEPTH} levels", "", _span(event))
        if self._count > MAX_VALUES:
            self._stop((), f"more than {MAX_VALUES} values, with what aliases repeat", "", _span(event))

    def _report(self, loc: Loc, message: str, hint: str = "", *, span: Span, at_key: bool = False) -> None:
        self._document.issues.append(YamlIssue(loc=loc, message=message, hint=hint, span=span, at_key=at_key))

    def _stop(self, loc: Loc, message: str, hint: str, span: Span) -> None:
        raise YamlSyntaxError(YamlIssue(loc=loc, message=message, hint=hint, span=span))


def _plain(text: str) -> str | int | float | bool | None:
    """Return an unquoted scalar by the rules of YAML 1.2; ValueError if an integer has too many digits to be shown."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return text
    if _INTEGER.fullmatch(text):
        if len(text) > 1000:  # Python shows at most 4300 decimal digits
            raise ValueError
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if _FLOAT.fullmatch(text):
        return float(text)
    return math.nan if _NOT_FINITE.fullmatch(text) else text


def _measure(value: Any) -> tuple[int, int]:
    """Return the number of values in a value, itself included, and the number of levels below it."""
    if not isinstance(value, dict | list):
        return 1, 0
    parts = [_measure(part) for part in (value.values() if isinstance(value, dict) else value)]
    return 1 + sum(count for count, _ in parts), max((height + 1 for _, height in parts), default=0)


def _span(place: Any) -> Span:
    if isinstance(place, Span):
        return place
    start, end = place.start_mark, place.end_mark
    width = end.column - start.column if start.line == end.line else 10_000
    return Span(start.line + 1, start.column + 1, max(width, 1))


def _short_tag(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")
