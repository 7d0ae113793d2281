"""Progress of long operations in the log: the completed amount and the rate, every few seconds."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

__all__ = ["progress_logger"]

log = logging.getLogger(__name__)


def progress_logger(
    activity: str,
    unit: str,
    total: int | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
    every: float = 5.0,
) -> Callable[[int], None]:
    """Return a thread-safe function that adds completed units and logs the progress at intervals.

    Args:
        activity: description of the operation, such as "writing table".
        unit: plural name of the counted units, such as "rows".
        total: expected number of units; None if it is unknown.
        clock: monotonic clock in seconds.
        every: seconds between two log lines. A shorter operation logs nothing.
    """
    started = last_logged = clock()
    done, lock = 0, threading.Lock()

    def add(count: int) -> None:
        nonlocal done, last_logged
        with lock:
            done, now = done + count, clock()
            if now - last_logged < every:
                return
            last_logged = now
            share = f" of {total:,} ({done / total:.0%})" if total else ""
            log.info("%s: %s%s %s, %s per second", activity, f"{done:,}", share, unit, f"{done / (now - started):,.0f}")

    return add
