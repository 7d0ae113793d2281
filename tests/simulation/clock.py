"""The simulated time: replacements of `time`, `threading` and `datetime` in the modules under test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Self

from tests.simulation.scheduler import Scheduler, Thread

__all__ = ["START", "Clock", "clock_datetime"]

START = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    """The module `time` and `threading` of the process that runs now."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler

    def monotonic(self) -> float:
        """Return a time that never jumps."""
        return self.scheduler.now

    def sleep(self, seconds: float) -> None:
        """Let the thread wait."""
        self.scheduler.sleep(seconds)

    def wall(self) -> datetime:
        """Return the time of the process's host; without a process, the true time."""
        current = self.scheduler.current
        offset = current.process.clock_offset if current else 0.0
        return START + timedelta(seconds=self.scheduler.now + offset)

    def time(self) -> float:
        """Return the seconds since 1970."""
        return self.wall().timestamp()

    def time_ns(self) -> int:
        """Return the nanoseconds since 1970."""
        return round(self.time() * 1e9)

    def perf_counter(self) -> float:
        """Return a time that never jumps."""
        return self.scheduler.now

    def Event(self) -> _Event:  # noqa: N802  the name in `threading`
        """Return an event that threads wait for."""
        return _Event(self.scheduler)

    def Thread(self, *, target: Callable[..., Any], args: Sequence[Any] = (), daemon: bool = True) -> _Thread:  # noqa: N802
        """Return a thread of the current process."""
        return _Thread(self.scheduler, lambda: target(*args))


class _Event:
    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._set = False

    def set(self) -> None:
        self._set = True

    def is_set(self) -> bool:
        return self._set

    def wait(self, timeout: float | None = None) -> bool:
        return self._scheduler.wait(self.is_set, timeout)


class _Thread:
    def __init__(self, scheduler: Scheduler, function: Callable[[], Any]) -> None:
        self._scheduler, self._function = scheduler, function
        self._thread: Thread | None = None

    def start(self) -> None:
        self._thread = self._scheduler.spawn(self._scheduler.process, self._function)

    def join(self, timeout: float | None = None) -> None:
        thread = self._thread
        assert thread is not None
        self._scheduler.wait(lambda: thread.done, timeout)


class Sequential:
    """A thread pool that calls one function after the other."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing runs any more."""

    def map(self, function: Callable[[Any], Any], items: Any) -> Iterator[Any]:
        """Return the results in order."""
        return map(function, items)


def clock_datetime(now: Callable[[], datetime]) -> type[datetime]:
    """Return the class `datetime` with the simulated time."""

    class SimulatedDatetime(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return now()

    return SimulatedDatetime
