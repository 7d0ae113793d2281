"""A process that imports much and ends soon has no use for collecting garbage."""

from __future__ import annotations

import atexit
import gc

__all__ = ["leave_garbage"]

_COLLECT_AFTER = 200_000  # objects


def leave_garbage() -> None:
    """Look for garbage seldom, and at the end not at all.

    Imports make millions of objects that stay. The collector would look at them again and again, and once more when the
    interpreter ends, which takes longer than a second.
    """
    gc.set_threshold(_COLLECT_AFTER)
    atexit.register(gc.freeze)
