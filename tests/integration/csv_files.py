"""Small CSV files of every shape, from a seed: for tests that compare readers."""

from __future__ import annotations

import random
from collections.abc import Callable

__all__ = ["random_csv"]

_LINE_ENDS = (["\n"], ["\n"], ["\n"], ["\r\n"], ["\r\n"], ["\r"], ["\n", "\r\n"], ["\n", "\r\n", "\r", "\n\n"])
_NAMES = (
    "id",
    "x",
    "label",
    "^x$",
    "*",
    "a b",
    " x",
    "x ",
    "größe",
    "日本",
    "1",
    "index",
    "_",
    "a.b",
    "Straße",
    "𝄞",
    "'q'",
)
_ODD_NAMES = ("", '"', "a,b", "two\nlines", 'a "b" c', "x;y", "^.*$", "\ufeffid", "x\ty", "None", "x_duplicated_0")
_WORDS = ("", "", "1", "-2.5", "007", "word", "two words", " 1 ", "  ", "\t", "größe", "日本", "𝄞", "N/A", "'", "1e5")
_QUOTED = (
    "a,b",
    'say "hi"',
    "two\nlines",
    "two\r\nlines",
    "two\rlines",
    '"',
    '""',
    ",",
    "\n",
    "",
    " ",
    "x",
    '27" pipe',
)
_STRAY = ('5" pipe', 'a"b"c', ' "x"', 'x"', 'x""y', '""x', '"5"x', '"a" ', '"a\nb"x', '"open', '"', 'a""', '"a"b"')
_SPOILERS = ("ragged", "trailing", "short", "nul", "latin-1", "utf-16", "cut", "comma lines", "blank start", "bytes")


def random_csv(seed: int) -> bytes:
    """Return the bytes of a file; most are valid CSV, some are not, and some are not text."""
    rng = random.Random(seed)
    columns = rng.choice((1, 1, 2, 2, 3, 3, 4, 5, 8, 60)) if rng.random() < 0.98 else 700
    count = rng.choice((0, 1, 2, 3, 5, 8, 12)) if rng.random() < 0.98 else 400
    lines = [[_name(rng) for _ in range(columns)], *([_cell(rng) for _ in range(columns)] for _ in range(count))]
    strays = rng.random() < 0.3
    for _ in range(rng.choice((0, 0, 1, 2, 3)) if strays else 0):
        line = rng.choice(lines)
        line[rng.randrange(columns)] = rng.choice(_STRAY)
    spoiler = rng.choice(_SPOILERS) if rng.random() < 0.15 else ""
    _spoil(rng, spoiler, lines)
    ends = rng.choice(_LINE_ENDS)
    text = "".join(",".join(line) + rng.choice(ends) for line in lines)
    if rng.random() < 0.2:
        text = text.rstrip("\r\n")
    if rng.random() < 0.2:
        text += rng.choice(("\n", "\r\n", "\n\n\n", ",\n", " ", '""\n', "\r", '"'))
    return _encoded(rng, spoiler, text)


def _name(rng: random.Random) -> str:
    chance = rng.random()
    if chance < 0.9:
        return f"{rng.choice(_NAMES)}{rng.randrange(1000)}"
    if chance < 0.95:
        return _quote(rng.choice(_ODD_NAMES) + str(rng.randrange(1000)))
    return _quote(rng.choice(_ODD_NAMES)) if chance < 0.97 else rng.choice(_NAMES)


def _cell(rng: random.Random) -> str:
    chance = rng.random()
    if chance < 0.75:
        return rng.choice(_WORDS)
    if chance < 0.95:
        return _quote(rng.choice(_QUOTED))
    return str(rng.random() * 10 ** rng.randrange(-20, 20))


def _quote(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _spoil(rng: random.Random, spoiler: str, lines: list[list[str]]) -> None:
    changes: dict[str, Callable[[list[str]], object]] = {
        "ragged": lambda line: line.append("more"),
        "short": lambda line: line.pop(),
        "nul": lambda line: line.__setitem__(0, "a\0b"),
        "latin-1": lambda line: line.__setitem__(0, "größe"),
    }
    if spoiler in changes:
        changes[spoiler](rng.choice(lines))
    if spoiler == "trailing":
        for line in lines if rng.random() < 0.5 else lines[1:]:
            line.append("")
    if spoiler == "comma lines":
        lines.insert(rng.randrange(1, len(lines) + 1), [""] * len(lines[0]))
    if spoiler == "blank start":
        lines.insert(0, [rng.choice(("", " ", ""))])


def _encoded(rng: random.Random, spoiler: str, text: str) -> bytes:
    if spoiler in ("latin-1", "utf-16"):
        return text.encode(spoiler, errors="replace")
    data = text.encode("utf-8-sig" if rng.random() < 0.1 else "utf-8")
    if spoiler == "cut":
        return data[: rng.randrange(len(data) + 1)]
    if spoiler == "bytes" and data:
        position = rng.randrange(len(data))
        return data[:position] + bytes([rng.randrange(256)]) + data[position + 1 :]
    return data
