"""Write a declaration as YAML with comments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ml_pipelines._utils.yaml_quoting import quote_yaml
from ml_pipelines.escaping import visible

__all__ = ["write_yaml"]

Path = tuple[str, ...]

_FLOW_DEPTH = 2
"""From this depth on a mapping is written in one line, apart from the columns and the source."""


def write_yaml(data: Mapping[str, Any], comments: Mapping[Path, str], *, header: str) -> str:
    """Return plain data as the text of a declaration.

    Args:
        data: mappings, lists, texts, numbers and booleans.
        comments: by path. The comment of a section is above it, that of another value behind it.
        header: comment at the start of the file.
    """
    sections = [[_comment(line) for line in header.splitlines()]]
    for name, value in data.items():
        above = [_comment(line) for line in comments.get((name,), "").splitlines()]
        sections.append([*above, *_lines((name,), value, comments)])
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def _lines(path: Path, value: Any, comments: Mapping[Path, str]) -> Iterator[str]:
    indent = "  " * (len(path) - 1)
    behind = f"  {_comment(comments[path])}" if len(path) > 1 and path in comments else ""
    if isinstance(value, Mapping) and value and _is_block(path):
        yield f"{indent}{quote_yaml(path[-1])}:{behind}"
        for name, inner in value.items():
            yield from _lines((*path, name), inner, comments)
    elif isinstance(value, list) and value and any(path == above[:-1] for above in comments):
        yield f"{indent}{quote_yaml(path[-1])}:{behind}"
        for item in value:
            reason = comments.get((*path, str(item)), "")
            yield f"{indent}  - {_flow(item)}" + (f"  {_comment(reason)}" if reason else "")
    else:
        yield f"{indent}{quote_yaml(path[-1])}: {_flow(value)}{behind}"


def _is_block(path: Path) -> bool:
    return len(path) < _FLOW_DEPTH or (path[0] == "data" and len(path) == _FLOW_DEPTH)


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{quote_yaml(name)}: {_flow(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return quote_yaml(value) if isinstance(value, str) else repr(value)


def _comment(text: str) -> str:
    return f"# {visible(text)}".rstrip()
