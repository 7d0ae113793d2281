"""The kinds of declarations: a file declares its kind, or its content shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

__all__ = ["KINDS", "Kind", "KindRow", "find_kind"]

Kind = Literal["training", "scoring", "drift"]


class KindRow(NamedTuple):
    """A kind of declaration.

    Attributes:
        label: its name in messages.
        keys: the keys that no other kind has, each as a path.
        readers: the commands and functions that read it.
    """

    label: str
    keys: tuple[tuple[str, ...], ...]
    readers: str


KINDS: dict[Kind, KindRow] = {
    "drift": KindRow(
        "drift monitor", (("watch",), ("limits",), ("retrain",)), "`ml-pipelines drift` and drift_dag read it"
    ),
    "scoring": KindRow(
        "scoring",
        (("shards",), ("output",), ("min_scored",), ("data", "types"), ("model", "alias"), ("model", "version")),
        "`ml-pipelines score` and scoring_dag read it",
    ),
    "training": KindRow(
        "training",
        (
            *((name,) for name in ("gate", "candidates", "checks", "split", "features", "threshold", "seed")),
            *(("data", name) for name in ("target", "positive", "columns", "ignore")),
            ("model", "task"),
        ),
        "`ml-pipelines run` and training_dag read it",
    ),
}
"""The kinds in the order of a search. An alias of a model is a sign of scoring unless the file has `watch`."""


def find_kind(data: Any) -> tuple[Kind, str]:
    """Return the kind of a declaration, and the key that shows it, which may be empty.

    The key `kind` decides. Without it, the kind with most of its own keys in the file is the kind, the first one of
    :data:`KINDS` among equals. Without any, a file with a model and data is a scoring.

    Args:
        data: plain data of the file.
    """
    if not isinstance(data, Mapping):
        return "training", ""
    if (declared := data.get("kind")) in KINDS:
        return declared, f"kind: {declared}"
    signs = {kind: [key for key in row.keys if _has(data, key)] for kind, row in KINDS.items()}
    kind = max(signs, key=lambda name: len(signs[name]))
    if signs[kind]:
        return kind, ".".join(signs[kind][0])
    return ("scoring" if {"model", "data"} <= set(data) else "training"), ""


def _has(data: Any, key: tuple[str, ...]) -> bool:
    for name in key:
        if not isinstance(data, Mapping) or name not in data:
            return False
        data = data[name]
    return True
