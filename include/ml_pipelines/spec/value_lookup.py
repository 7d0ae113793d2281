"""Look up values in the plain data of a declaration."""

from __future__ import annotations

from typing import Any

from ml_pipelines.spec.yaml_source import Loc

__all__ = ["items_at", "value_at"]


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
