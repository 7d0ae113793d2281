"""Garbage collection settings for short processes that import many modules."""

from __future__ import annotations

import atexit
import gc

__all__ = ["limit_garbage_collection", "skip_final_collection"]

_THRESHOLD = 200_000
"""New objects until a collection; Python's default is a few hundred."""


def limit_garbage_collection() -> None:
    """Collect garbage rarely, and not at exit. Only for a process that belongs to this package.

    Imports create millions of objects that live until the end. Each collection would traverse them again.
    """
    gc.set_threshold(_THRESHOLD)
    skip_final_collection()


def skip_final_collection() -> None:
    """Skip the collection at exit, which takes more than a second after large imports."""
    atexit.register(gc.freeze)
