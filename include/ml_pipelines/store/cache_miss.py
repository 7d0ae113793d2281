"""Explain a cache miss: the difference between two sets of key components."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ml_pipelines._utils.canonical_json import Components, json_digest

__all__ = ["components_key", "differences"]

_LONGEST_CHANGE = 120
_NOTHING = object()


def components_key(components: Components) -> str:
    """Return the cache key of key components."""
    return json_digest(components)


def differences(old: Components, new: Components) -> list[str]:
    """Return the differences between the key components of two results, one phrase each."""
    return [_sentence(*change) for change in _changes(old, new, ())]


def _changes(old: Any, new: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in (*new, *(name for name in old if name not in new)):
            yield from _changes(old.get(name, _NOTHING), new.get(name, _NOTHING), (*path, name))
    elif _shown(old) != _shown(new):
        yield path, old, new


def _sentence(path: tuple[str, ...], old: Any, new: Any) -> str:
    section, *rest = path
    name = ".".join(rest)
    if section == "inputs":
        return f"input {name} changed"
    if section == "user_code" and rest:
        return f"{rest[0]} changed" + (f" in {name.removeprefix(rest[0]).lstrip('.')}" if rest[1:] else "")
    if section == "code":
        return f"code of {name} changed"
    subject = {"parameters": f"parameters.{name}", "facts": f"fact {name}", "environment": name}.get(section, section)
    change = f" from {_shown(old)} to {_shown(new)}"
    return f"{subject} changed{change if len(change) <= _LONGEST_CHANGE else ''}"


def _shown(value: Any) -> str:
    return "nothing" if value is _NOTHING else json.dumps(value, sort_keys=True, ensure_ascii=False)
