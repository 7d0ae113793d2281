"""A cooperative scheduler of simulated processes. One seed determines the whole schedule.

Each thread of a process is a greenlet. Each request to a simulated system is two points at which the scheduler may
switch to another thread, end a process, or let time pass: before the effect of the request, and before its answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet

from ml_pipelines.errors import PipelineError

__all__ = ["Crash", "Faults", "Process", "Scheduler", "Stuck", "Thread"]

_Result = TypeVar("_Result")
_MOST_STEPS = 200_000
_FROZEN_SECONDS = (5.0, 20.0, 45.0, 120.0)
_CLOCK_JUMPS = (-7200.0, -60.0, 0.5, 90.0, 7200.0)


class Crash(BaseException):
    """The process of the current thread was killed: no handler and no further request has an effect."""


class Stuck(AssertionError):
    """No thread can ever go on, or the threads go on without an end."""


@dataclass(slots=True)
class Faults:
    """Probability of each fault at one request, and how many faults a schedule may have."""

    crash: float = 0.0
    refused: float = 0.0
    lost: float = 0.0
    duplicate: float = 0.0
    stale: float = 0.0
    freeze: float = 0.0
    jump: float = 0.0
    budget: int = 0

    @property
    def at_pause(self) -> float:
        """Probability of a fault of the process itself."""
        return self.crash + self.freeze + self.jump

    def happens(self, random: Random, name: str) -> bool:
        """Return whether a fault happens now."""
        if not self.budget or random.random() >= getattr(self, name):
            return False
        self.budget -= 1
        return True


@dataclass(eq=False, slots=True)
class Process:
    """A simulated process on a host with a clock of its own."""

    name: str
    host: str
    scheduler: Scheduler
    alive: bool = True
    clock_offset: float = 0.0
    threads: list[Thread] = field(default_factory=list)
    written: dict[str, bytes] = field(default_factory=dict)  # local files, gone with the process

    def kill(self) -> None:
        """End the process. Its threads end when the scheduler comes to them."""
        self.alive = False
        for thread in self.threads:
            thread.wake, thread.ready = 0.0, None


class Thread:
    """One thread of a process."""

    def __init__(self, process: Process, function: Callable[[], Any]) -> None:
        self.process = process
        self.wake = process.scheduler.now
        self.ready: Callable[[], bool] | None = None
        self.deadline: float | None = None
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None
        self._function = function
        self.greenlet = greenlet(self._run, parent=process.scheduler.hub)
        process.threads.append(self)

    def is_runnable(self, now: float) -> bool:
        """Return whether the thread can go on at a time."""
        if self.wake > now:
            return False
        return self.ready is None or self.ready() or (self.deadline is not None and self.deadline <= now)

    def next_time(self, now: float) -> float | None:
        """Return the next time at which the thread may continue; None if it waits for another thread."""
        return self.wake if self.wake > now else self.deadline

    def _run(self) -> None:
        try:
            if self.process.alive:
                self.result = self._function()
            else:
                self.error = Crash()
        except (Exception, Crash) as exc:
            self.error = exc
        self.done = True


class Scheduler:
    """Runs threads one at a time, in an order that a seed determines."""

    def __init__(self, seed: int, faults: Faults | None = None) -> None:
        self.hub = getcurrent()
        self.random = Random(seed)
        self.faults = faults or Faults()
        self.now = 0.0
        self.threads: list[Thread] = []
        self.current: Thread | None = None
        self.trace: list[str] | None = None
        self.digest = hashlib.sha256()
        self.steps = 0
        self.crashes: list[str] = []
        # From even interleaving to long turns of one thread: each finds other faults.
        self._switch = self.random.choice((0.15, 0.5, 1.0))

    def spawn(self, process: Process, function: Callable[[], Any]) -> Thread:
        """Start a thread of a process."""
        thread = Thread(process, function)
        self.threads.append(thread)
        return thread

    @property
    def process(self) -> Process:
        """The process of the current thread."""
        assert self.current is not None, "only a simulated thread has a process"
        return self.current.process

    def run(self) -> None:
        """Run until all threads have ended."""
        while self.threads:
            thread = self._next()
            self.current = thread
            thread.greenlet.switch()
            self.current = None
            if thread.done:
                self.threads.remove(thread)
                thread.process.threads.remove(thread)
                if thread.error is not None and not isinstance(thread.error, (Crash, PipelineError)):
                    raise thread.error
            self.steps += 1
            if self.steps > _MOST_STEPS:
                raise Stuck("the threads go on without an end")

    def _next(self) -> Thread:
        while True:
            now, threads = self.now, self.threads
            start = self.random.randrange(len(threads)) if len(threads) > 1 else 0
            for index in range(start - len(threads), start):
                if threads[index].is_runnable(now):
                    return threads[index]
            times = [time for thread in threads if (time := thread.next_time(now)) is not None]
            if not times:
                raise Stuck("every thread waits for another one")
            self.now = min(times)

    def pause(self, label: str) -> None:
        """Let other threads run. The process may end here, or stand still for a while."""
        thread = self.current
        if thread is None:  # the harness itself looks at a system
            return
        process = thread.process
        if not process.alive:
            raise Crash
        random = self.random.random
        self.now += random() * 0.01
        if self.faults.budget and random() < self.faults.at_pause:
            self._disturb(process, label)
        if thread.wake > self.now or (len(self.threads) > 1 and random() < self._switch):
            self.hub.switch()
            if not process.alive:
                raise Crash
        self._log(process, label)

    def _disturb(self, process: Process, label: str) -> None:
        """Kill the process, let it stand still, or let its clock jump."""
        random, faults = self.random, self.faults
        faults.budget -= 1
        chance = random.random() * faults.at_pause
        if chance < faults.crash:
            self.crashes.append(label)
            self._log(process, f"{label}: killed")
            process.kill()
            raise Crash
        if chance < faults.crash + faults.freeze:
            seconds = random.choice(_FROZEN_SECONDS)
            self._log(process, f"{label}: stands still for {seconds} s")
            for own in process.threads:
                own.wake = max(own.wake, self.now + seconds)
        else:
            process.clock_offset += random.choice(_CLOCK_JUMPS)
            self._log(process, f"{label}: its clock jumps by {process.clock_offset} s")

    def sleep(self, seconds: float) -> None:
        """Let the current thread wait for some seconds."""
        thread = self._alive()
        thread.wake = self.now + seconds
        self._yield(thread)

    def wait(self, ready: Callable[[], bool], seconds: float | None = None) -> bool:
        """Let the current thread wait for a condition; return whether it is true."""
        thread = self._alive()
        if not ready():
            thread.ready, thread.deadline = ready, None if seconds is None else self.now + seconds
            self._yield(thread)
        return ready()

    def _alive(self) -> Thread:
        thread = self.current
        assert thread is not None, "only a simulated thread can wait"
        if not thread.process.alive:
            raise Crash
        return thread

    def _yield(self, thread: Thread) -> None:
        self.hub.switch()
        thread.ready = thread.deadline = None
        if not thread.process.alive:
            raise Crash

    def request(
        self, label: str, effect: Callable[[], _Result], error: Callable[[str], Exception], *, repeat: bool = True
    ) -> _Result:
        """Send a request to a simulated system: it may be refused, have its effect twice, or lose its answer.

        Args:
            label: the request, for the trace.
            effect: carries the request out.
            error: returns the error that the caller sees if there is no answer.
            repeat: whether the network may deliver the request twice.
        """
        self.pause(label)
        random, faults = self.random, self.faults
        if self.current is None or not faults.budget:
            result = effect()
        else:
            if faults.happens(random, "refused"):
                self._log(self.process, f"{label}: refused")
                raise error(f"{label}: no connection")
            result = effect()
            if repeat and faults.happens(random, "duplicate"):
                self._log(self.process, f"{label}: delivered twice")
                result = effect()
            if faults.happens(random, "lost"):
                self._log(self.process, f"{label}: answer lost")
                raise error(f"{label}: the answer was lost")
        self.pause(f"{label} answered")
        return result

    def is_faulty(self, name: str) -> bool:
        """Return whether a fault of this name happens now to the current thread."""
        if self.current is None or not self.faults.happens(self.random, name):
            return False
        self._log(self.process, f"fault: {name}")
        return True

    def _log(self, process: Process, text: str) -> None:
        self.digest.update(text.encode())
        if self.trace is not None:
            self.trace.append(f"{self.now:9.3f} {process.name:<24} {text}")
