r"""Text of data and declarations, escaped for the place that shows it.

Names of columns, cells, reasons and messages come from data. None of them may become markup, a terminal command, or an
invisible change of the text around it. :func:`visible` writes control and format characters as Python does, such as
`\x1b` or `\u202e`. The other functions also escape the markup of their target.
"""

from __future__ import annotations

import re
from html import escape as _html
from unicodedata import category

__all__ = ["escape_html", "escape_markdown", "escape_slack", "visible"]

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
# Controls, format characters such as bidirectional marks, surrogates, private use, line and paragraph separators.
_INVISIBLE = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})
_NONCHARACTERS = re.compile("[\ufdd0-\ufdef\ufffe\uffff]")
_JOINER = "\N{WORD JOINER}"  # invisible; separates the parts of an address, which would become a link

_UNDERSCORES = re.compile(r"(?<!_)(?:(?<![^\W_])_+|_+(?!\w))")  # within a word they mark nothing
_MARKDOWN = re.compile(r"[\\`*\[\]<>&|~]")
_MARKDOWN_START = re.compile(r"^(\d{0,9})([#+=-]|(?<=\d)[.)])")
_MARKDOWN_LINK = re.compile(r"(?i)(?<=:)(?=//)|(?<=www)(?=\.)|(?=@)")

# Slack's markup has no escape character, so similar characters replace those that format a text.
_SLACK = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "*": "∗", "`": "ˋ", "~": "∼"}  # noqa: RUF001
_SLACK_CHARACTERS = re.compile("[&<>*`~]")
_SLACK_EMOJI = re.compile(r":(?=[\w+'-]*[a-z+'-][\w+'-]*:)")


def visible(text: str, *, lines: bool = False) -> str:
    """Return a text with control and format characters written as escapes.

    Args:
        text: any text.
        lines: keep line breaks and tabs, for a text of several lines.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(character, lines=lines) for character in text)


def escape_html(text: str) -> str:
    """Return a text for HTML, as content or as a quoted attribute."""
    return _html(visible(text, lines=True))


def escape_markdown(text: str) -> str:
    """Return a text for one line of Markdown (CommonMark with GitHub's tables, links and strikethrough)."""
    escaped = _MARKDOWN.sub(r"\\\g<0>", visible(text).strip())
    escaped = _UNDERSCORES.sub(lambda match: r"\_" * len(match[0]), escaped)
    return _MARKDOWN_LINK.sub(_JOINER, _MARKDOWN_START.sub(r"\1\\\2", escaped))


def escape_slack(text: str, *, lines: bool = False) -> str:
    """Return a text for Slack's markup; `lines` keeps line breaks."""
    shown = _SLACK_EMOJI.sub("∶", visible(text, lines=lines))  # noqa: RUF001
    plain = _UNDERSCORES.sub(lambda match: "ˍ" * len(match[0]), shown)
    return _SLACK_CHARACTERS.sub(lambda match: _SLACK[match[0]], plain)


def _shown(character: str, *, lines: bool) -> str:
    if lines and character in "\n\t":
        return character
    if category(character) not in _INVISIBLE and not _NONCHARACTERS.match(character):
        return character
    code = ord(character)
    if code < 0x100:
        return _SHORT.get(character, f"\\x{code:02x}")
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
