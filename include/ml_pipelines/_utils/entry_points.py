"""Objects that installed packages register in an entry-point group."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from ml_pipelines.errors import ExtensionError

__all__ = ["find_entry_points", "load_entry_point", "load_entry_points"]


@functools.cache
def find_entry_points(group: str) -> Mapping[str, EntryPoint]:
    """Return the entry points of a group by name, without importing them.

    The result is kept for the life of the process, because the search reads the metadata of every distribution.

    Raises:
        ExtensionError: two distributions register the same name.
    """
    entries: dict[str, EntryPoint] = {}
    for entry in entry_points(group=group):
        other = entries.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise ExtensionError(
                f"two packages register {entry.name!r}",
                where=f"entry-point group {group}",
                got=f"{other.value} and {entry.value}",
                fix="uninstall one of the packages",
            )
    return entries


def load_entry_point(group: str, name: str) -> Any:
    """Import and return the object that an entry point names.

    Raises:
        KeyError: no installed package registers the name.
        ExtensionError: its package can't be imported.
    """
    entry = find_entry_points(group)[name]
    try:
        return entry.load()
    except Exception as exc:  # importing an extension runs its code, which can raise anything
        raise ExtensionError(
            f"the extension {name!r} can't be loaded",
            where=f"entry point {entry.value} in group {group}",
            got=f"{type(exc).__name__}: {exc}",
            fix="repair or uninstall the package that registers it",
        ) from exc


def load_entry_points(group: str) -> dict[str, Any]:
    """Import and return all objects of a group by name; raises as :func:`load_entry_point`."""
    return {name: load_entry_point(group, name) for name in sorted(find_entry_points(group))}
