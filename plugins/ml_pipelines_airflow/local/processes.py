"""ProcessGroup that belong together: started, waited for, and stopped with everything that they have started."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from ml_pipelines.errors import ServiceUnavailable

__all__ = ["ProcessGroup", "find_free_port", "stop_processes"]

_SECONDS = 600  # for anything to be there, on a busy machine
_SHOWN = 3000  # characters of a log


def find_free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def stop_processes(*processes: subprocess.Popen[Any], seconds: float = 5) -> None:
    """Stop processes that each lead a session, and everything they have started.

    Args:
        processes: what to stop.
        seconds: that each has to end what it is doing; then it is killed.
    """
    family = [child for process in processes for child in _children(process)]
    for number in (signal.SIGTERM, signal.SIGKILL):  # the second also for those that outlive the one that was started
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        end = time.monotonic() + seconds
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, end - time.monotonic()))
    for child in family:  # tasks lead sessions of their own
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


def _children(process: subprocess.Popen[Any]) -> list[Any]:
    try:
        return list(psutil.Process(process.pid).children(recursive=True)) if process.poll() is None else []
    except psutil.NoSuchProcess:
        return []


@dataclass
class ProcessGroup:
    """ProcessGroup that belong together: each leads a session, and has a log in the folder.

    Attributes:
        root: the folder.
        environment: of the processes. Secret.
        running: by name, those that are to run on.
    """

    root: Path
    environment: dict[str, str] = field(repr=False)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def log(self, name: str) -> Path:
        """Where a process writes to."""
        return self.root / f"{name}.log"

    def start(self, name: str, *command: str, **variables: str) -> None:
        """Start a process."""
        with self.log(name).open("wb") as log:
            self.running[name] = subprocess.Popen(
                command,
                env=self.environment | variables,
                cwd=self.root,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def finish(self, name: str) -> None:
        """Wait for the end of a process that has one.

        Raises:
            ServiceUnavailable: it has failed.
        """
        if self.running[name].wait(_SECONDS):
            raise self._ended(name)
        del self.running[name]

    def until(self, what: str, found: Callable[[], bool]) -> None:
        """Wait for something.

        Raises:
            ServiceUnavailable: it does not come, or a process has ended.
        """
        end = time.monotonic() + _SECONDS
        while time.monotonic() < end:
            self.check()
            with contextlib.suppress(OSError):
                if found():
                    return
            time.sleep(0.25)
        raise ServiceUnavailable(
            f"no {what} in {_SECONDS} s", where=str(self.root), fix="see the logs there; a busy machine needs longer"
        )

    def check(self) -> None:
        """See that all processes are there.

        Raises:
            ServiceUnavailable: one has ended.
        """
        for name, process in self.running.items():
            if process.poll() is not None:
                raise self._ended(name)

    def stop(self, seconds: float = 5) -> None:
        """Stop all that was started."""
        stop_processes(*self.running.values(), seconds=seconds)

    def _ended(self, name: str) -> ServiceUnavailable:
        said = self.log(name).read_text(errors="replace")[-_SHOWN:].strip()
        return ServiceUnavailable(
            f"{name} has ended", where=str(self.log(name)), got=said, fix="mend what it says, and start again"
        )
