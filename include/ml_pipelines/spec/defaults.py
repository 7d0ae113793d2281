"""Defaults that follow from other parts of a declaration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["DEFAULT_METRICS", "derived_defaults", "with_derived_defaults"]

DEFAULT_METRICS: Mapping[str, str] = {"classification": "roc_auc", "regression": "r2"}
"""The primary metric of a declaration without `gate.metric`. Both need no threshold and have no unit."""


def derived_defaults(data: Mapping[str, Any]) -> dict[str, str]:
    """Return the defaults that the plain data of a training declaration leaves to be derived, by key.

    Args:
        data: which may be invalid; then some defaults are left out.
    """
    defaults = {}
    gate, split = data.get("gate", {}), data.get("split", {})
    if (metric := _default_metric(data)) is not None and isinstance(gate, Mapping) and "metric" not in gate:
        defaults["gate.metric"] = metric
    by_hash = isinstance(split, Mapping) and split.get("method", "hash") != "time" and split.get("group") is None
    if by_hash and _field(data.get("data"), "key") is None:
        defaults["data.key"] = "none, so the split uses a hash of the content of each row"
    return defaults


def with_derived_defaults(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plain data of a declaration with a primary metric."""
    metric = derived_defaults(data).get("gate.metric")
    return {**data, "gate": {"metric": metric, **data.get("gate", {})}} if metric else dict(data)


def _default_metric(data: Mapping[str, Any]) -> str | None:
    task = _field(data.get("model"), "task")
    return DEFAULT_METRICS.get(task) if isinstance(task, str) else None


def _field(section: Any, name: str) -> Any:
    return section.get(name) if isinstance(section, Mapping) else getattr(section, name, None)
