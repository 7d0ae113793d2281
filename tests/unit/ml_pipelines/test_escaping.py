"""Text of data shows no markup: checked with parsers of the targets."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from unicodedata import category

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console
from rich.text import Text

from ml_pipelines.escaping import escape_html, escape_markdown, escape_slack, visible

HOSTILE = [
    "<script>alert(1)</script>",
    "&lt;b&gt;",
    "**bold** _it_ ~~no~~ `code`",
    "[a](http://evil)",
    "![a](http://evil/a.png)",
    "http://evil.example",
    "www.evil.example",
    "a@evil.example",
    "<http://evil|click> <!here> @here #general :tada:",
    "| a | b |",
    "# heading",
    "1. item",
    "12) item",
    "- item",
    "+ item",
    "> quote",
    "---",
    "===",
    "    code",
    "\x1b[31mred\x1b[0m \x1b]8;;http://evil\x07link\x1b]8;;\x07",
    "\u202eabc\u2066 \u200b\ufeff\x00\x9b31m\u2028\r\n\t\ud800\ufffe\U000e0041",
    "\\*a\\*",
    "back\\",
    "*",
    "_private_ snake_case __init__ a__b",
]
TEXTS = (
    st.sampled_from(HOSTILE)
    | st.text(max_size=30)
    | st.lists(st.sampled_from([*"<>&*_~`|[]()#-+=.!:/\\@1 \n", "a", "http://", "www.", "\x1b[1m", "\u202e"])).map(
        "".join
    )
)
SHOWN = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("größe 日本 👍", "größe 日本 👍"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\u202eb", "a\\u202eb"),
        ("\x00\x85\u200b\u2028\ud800\uffff\U000e0041", "\\x00\\x85\\u200b\\u2028\\ud800\\uffff\\U000e0041"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
    ],
)
def test_visible_writes_control_and_format_characters_as_escapes(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_visible_keeps_lines_on_request() -> None:
    assert visible("a\nb\tc\rd\x1b", lines=True) == "a\nb\tc\\rd\\x1b"


@given(TEXTS, st.booleans())
def test_visible_leaves_no_invisible_character_and_can_be_repeated(text: str, lines: bool) -> None:
    shown = visible(text, lines=lines)
    kept = "\n\t" if lines else ""
    assert not [
        character for character in shown if category(character)[0] == "C" and character not in kept + _unassigned(shown)
    ]
    assert visible(shown, lines=lines) == shown
    shown.encode()


def _unassigned(text: str) -> str:
    return "".join(character for character in text if category(character) == "Cn")


@given(TEXTS)
def test_visible_shows_the_text_and_no_style_in_a_terminal(text: str) -> None:
    console = Console(width=100_000, force_terminal=True, color_system="truecolor", emoji=False, highlight=False)
    with console.capture() as captured:
        console.print(Text(visible(text)), soft_wrap=True, end="")
    shown = Text.from_ansi(captured.get())
    assert shown.plain == visible(text)
    assert shown.spans == []


class _Page(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        self.tags.append(("comment", {}))

    handle_decl = handle_pi = unknown_decl = handle_comment


@given(TEXTS)
def test_escape_html_shows_the_text_and_no_markup(text: str) -> None:
    page = _Page(f'<p title="{escape_html(text)}">{escape_html(text)}</p>')
    shown = visible(text, lines=True)
    assert page.tags == [("p", {"title": shown})]
    assert page.text == shown


MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
# GitHub's links, as mdast-util-gfm-autolink-literal searches them in texts.
AUTOLINKS = re.compile(r"(?i)(https?://|www(?=\.))[-.\w]+|[-.\w+]+@[-\w]+(\.[-\w]+)+")


def _tokens(tokens: list[Token]) -> list[Token]:
    return [child for token in tokens for child in (token.children if token.type == "inline" else [token]) or []]


@settings(max_examples=300)
@example("a\\")
@given(TEXTS)
def test_escape_markdown_shows_the_text_and_no_markup(text: str) -> None:
    escaped = escape_markdown(text)
    page = f"{escaped}\n\n**x {escaped}**\n\n- x {escaped}\n\n| a |\n|---|\n| {escaped} |\n"
    tokens = _tokens(MARKDOWN.parse(page))
    expected = _tokens(
        MARKDOWN.parse(
            "x\n\n**x x**\n\n- x x\n\n| a |\n|---|\n| x |\n" if escaped else "**x **\n\n- x \n\n| a |\n|---|\n|  |\n"
        )
    )
    assert [token.type for token in tokens if token.type != "text"] == [
        token.type for token in expected if token.type != "text"
    ]
    texts = "".join(token.content for token in tokens if token.type == "text")
    assert not AUTOLINKS.search(texts)
    assert visible(text).strip() in texts.replace("\N{WORD JOINER}", "")


# Rules of Slack's markup: https://api.slack.com/reference/surfaces/formatting
SLACK_MARKUP = re.compile(r"[*~`]|(?<!\w)_|_(?!\w)|:[a-z0-9_+'-]*[a-z][a-z0-9_+'-]*:")


@given(TEXTS)
def test_escape_slack_shows_the_text_and_no_markup(text: str) -> None:
    escaped = escape_slack(text)
    assert not re.search(r"[<>]|&(?!amp;|lt;|gt;)", escaped)
    assert not SLACK_MARKUP.search(escaped)
    assert "\n" not in escaped
    assert len(escaped) >= len(visible(text))


def test_escape_slack_keeps_names_addresses_and_times() -> None:
    assert (
        escape_slack("manual__1 customer_id at 12:30:45, http://host/a_b")
        == "manual__1 customer_id at 12:30:45, http://host/a_b"
    )
    assert escape_slack("a\nb\x07", lines=True) == "a\nb\\x07"
