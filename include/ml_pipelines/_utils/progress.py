"""A line in the log every few seconds, for work that takes longer: how much is done, and how fast it goes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

__all__ = ["progress_logger"]

log = logging.getLogger(__name__)


def progress_logger(
    doing: str, unit: str, total: int | None = None, *, clock: Callable[[], float] = time.monotonic, every: float = 5.0
) -> Callable[[int], None]:
    """A function that is told how much more has been done, by any thread, and now and then logs it.

    Args:
        doing: what is being done.
        unit: of what is counted, in the plural.
        total: how much there is to do; None if that is not known.
        clock: seconds that only grow.
        every: seconds between two lines. Work that is done sooner logs nothing.
    """
    started = told = clock()
    done, lock = 0, threading.Lock()

    def tell(more: int) -> None:
        nonlocal done, told
        with lock:
            done, now = done + more, clock()
            if now - told < every:
                return
            told = now
            share = f" of {total:,} ({done / total:.0%})" if total else ""
            log.info("%s: %s%s %s, %s a second", doing, f"{done:,}", share, unit, f"{done / (now - started):,.0f}")

    return tell
