"""Parts of messages about a declaration: values, lists of valid words, and the nearest valid word."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

__all__ = ["closest_match", "did_you_mean", "format_value", "one_of"]


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
