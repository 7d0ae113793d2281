"""Estimators as arguments of other estimators: `{estimator: PATH, params: {...}}`, alone or in a mapping by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["estimator_paths", "is_nested", "nested_fields"]


def is_nested(value: Any) -> bool:
    """Return whether an argument declares an estimator."""
    return isinstance(value, Mapping) and isinstance(value.get("estimator"), str)


def nested_fields(params: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Return the path below `params` and the declaration of each estimator among arguments, and in their arguments."""
    for name, value in params.items():
        if is_nested(value):
            yield (name,), value
            inner = value.get("params")
            for path, declared in nested_fields(inner) if isinstance(inner, Mapping) else ():
                yield (name, "params", *path), declared
        elif isinstance(value, Mapping):
            for path, declared in nested_fields(value):
                yield (name, *path), declared


def estimator_paths(path: str, params: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the import paths of an estimator and of the estimators in its arguments, each once."""
    return tuple(dict.fromkeys((path, *(declared["estimator"] for _, declared in nested_fields(params)))))
