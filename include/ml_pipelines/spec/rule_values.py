"""Look up values in the plain data of a declaration, and show them in messages."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from ml_pipelines.spec.yaml_source import Loc

__all__ = ["closest_match", "did_you_mean", "format_value", "items_at", "one_of", "value_at"]


def closest_match(name: str, valid: list[str]) -> str:
    """Return the valid name that is most similar, or an empty text."""
    by_lower = {word.lower(): word for word in valid}
    matches = get_close_matches(name.lower(), by_lower, n=1)
    return by_lower[matches[0]] if matches else ""


def did_you_mean(name: str, valid: list[str]) -> str:
    """Return a hint with the closest valid name, or an empty text."""
    word = closest_match(name, valid)
    return f'did you mean "{word}"?' if word else ""


def one_of(words: list[str]) -> str:
    """Return valid words as text: `one of a, b`."""
    return f"one of {', '.join(words)}" if len(words) > 1 else "".join(words)


def format_value(value: Any) -> str:
    """Return a value in the notation of YAML, shortened to one line."""
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def value_at(data: Any, *loc: str | int) -> Any:
    """Return the value at a location, or None if it does not exist."""
    for part in loc:
        if isinstance(part, int) or not isinstance(data, dict):
            return None
        data = data.get(part)
    return data


def items_at(data: Any, *loc: str) -> list[tuple[Loc, Any]]:
    """Return the items of a mapping or list with their locations."""
    value = value_at(data, *loc)
    if isinstance(value, dict):
        return [((*loc, key), item) for key, item in value.items()]
    return [((*loc, index), item) for index, item in enumerate(value)] if isinstance(value, list) else []
