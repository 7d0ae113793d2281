"""A process that imports much and ends soon has no use for collecting garbage."""

from __future__ import annotations

import atexit
import gc

__all__ = ["limit_garbage_collection", "skip_final_collection"]

_COLLECT_AFTER = 200_000  # objects


def limit_garbage_collection() -> None:
    """Look for garbage seldom, and at the end not at all; for a process of our own.

    Imports make millions of objects that stay. The collector would look at them again and again.
    """
    gc.set_threshold(_COLLECT_AFTER)
    skip_final_collection()


def skip_final_collection() -> None:
    """Spare the interpreter its last look, which takes longer than a second; until then nothing changes."""
    atexit.register(gc.freeze)
