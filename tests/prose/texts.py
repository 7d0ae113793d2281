"""Extract the prose of a file: paragraphs of Markdown, docstrings, comments, and messages in string literals."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Text", "assigned_names", "texts_of"]

FEWEST_WORDS = 4  # of a string literal that is taken for a message
CODE = re.compile(r"``[^`]+``|`[^`\n]+`|:\w+:`[^`]+`|\$\{?\w+\}?|https?://\S+|<[^>\s][^>]*>")
FENCE = re.compile(r"^(\s*)(```|~~~)")
LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
SECTIONS = re.compile(r"^\s*(Args|Attributes|Raises|Returns|Yields|Example|Examples):\s*$")
QUERY = re.compile(r"^\s*(select|insert|update|delete|create|alter|drop|with|revoke|grant)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Text:
    """A paragraph of prose.

    Attributes:
        line: number of its first line in the file.
        content: without code and markup.
    """

    line: int
    content: str


def texts_of(path: Path) -> list[Text]:
    """Return the paragraphs of a Markdown, Python, YAML, TOML, Make or shell file."""
    source = path.read_text()
    if path.suffix == ".md":
        return list(_markdown(source))
    if path.suffix == ".py":
        return list(_python(source))
    return list(_hash_comments(source))


def assigned_names(source: str) -> list[tuple[int, str]]:
    """Return each assigned name of a module with its line: variables, arguments, functions and classes."""
    names: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.append((node.lineno, node.id))
        elif isinstance(node, ast.arg):
            names.append((node.lineno, node.arg))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append((node.lineno, node.name))
    return names


def _markdown(source: str) -> Iterator[Text]:
    """Yield paragraphs and list items; skip fenced code, front matter and generated blocks."""
    fence, start, lines = "", 0, list[str]()
    for number, line in enumerate([*source.splitlines(), ""], 1):
        if match := FENCE.match(line):
            fence = "" if fence == match[2] else fence or match[2]
            line = ""
        elif fence:
            continue
        new_item = re.match(r"\s*([*+-]|\d+\.|\||#+)\s*", line)
        if lines and (not line.strip() or new_item):
            yield Text(start, _plain(" ".join(lines)))
            lines = []
        if line.strip() and not line.startswith(("|-", "|:", "<!--", "!!!", "---")):
            start = start if lines else number
            lines.append(line.strip().strip("|").lstrip("*+-# ").replace(" | ", ". "))


def _python(source: str) -> Iterator[Text]:
    tree = ast.parse(source)
    documented = list(_docstrings(tree))
    for start, docstring in documented:
        yield from _paragraphs(start, docstring)
    yield from _comment_blocks(source)
    skipped = {id(node) for node in _docstring_nodes(tree)}
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            content = "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped | parts:
            content = node.value
        else:
            continue
        if len(re.findall(r"[A-Za-z']{2,}", content)) >= FEWEST_WORDS and " " in content and not QUERY.match(content):
            yield Text(node.lineno, _plain(content))


def _docstring_nodes(tree: ast.AST) -> Iterator[ast.Constant]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                yield first.value


def _docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for constant in _docstring_nodes(tree):
        if isinstance(constant.value, str):
            yield constant.lineno, constant.value


def _paragraphs(start: int, text: str) -> Iterator[Text]:
    """Yield the paragraphs of a docstring; an entry of `Args:` is a paragraph of its own."""
    first, lines = start, list[str]()
    for number, line in enumerate([*text.splitlines(), ""], start):
        entry = re.match(r"^\s+\w[\w.*\[\], ]*: ", line)
        if lines and (not line.strip() or entry or SECTIONS.match(line)):
            yield Text(first, _plain(" ".join(lines)))
            lines = []
        if line.strip() and not SECTIONS.match(line):
            first = first if lines else number
            lines.append(re.sub(r"^\w+: ", "", line.strip()) if entry else line.strip())


def _comment_blocks(source: str) -> Iterator[Text]:
    """Yield comments; successive lines with only a comment are one text."""
    start, last, lines = 0, -1, list[str]()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        row, content = token.start[0], re.sub(r"^#+\s*", "", token.string)
        if re.match(r"(noqa|type: ignore|pragma|!)", content):
            content = re.sub(r"^noqa: [A-Z0-9, ]+|^type: ignore\S*|^pragma: .*|^!.*", "", content)
        alone = token.line.lstrip().startswith("#")
        if lines and not (alone and row == last + 1):
            yield Text(start, _plain(" ".join(lines)))
            lines = []
        start, last = (start if lines else row), row if alone else -1
        lines.append(content)
    if lines:
        yield Text(start, _plain(" ".join(lines)))


def _hash_comments(source: str) -> Iterator[Text]:
    """Yield the comments of a file whose comments begin with `#`, and the help texts of a Makefile."""
    start, last, lines = 0, -1, list[str]()
    for number, line in enumerate(source.splitlines(), 1):
        match = re.search(r"(?:^|\s)#+\s+(?![!])(.*)$", line)
        if match is None:
            continue
        alone = line.lstrip().startswith("#")
        if lines and not (alone and number == last + 1):
            yield Text(start, _plain(" ".join(lines)))
            lines = []
        start, last = (start if lines else number), number if alone else -1
        lines.append(match[1])
    if lines:
        yield Text(start, _plain(" ".join(lines)))


def _plain(text: str) -> str:
    return CODE.sub("X", LINK.sub(r"\1", text)).strip()
