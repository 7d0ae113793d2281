"""Start, await and stop groups of processes with their children."""

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

TIMEOUT_SECONDS = 600  # a busy machine needs minutes
_LOG_CHARACTERS = 3000  # shown in an error


def find_free_port() -> int:
    """Return a free port of the loopback interface."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def stop_processes(*processes: subprocess.Popen[Any], seconds: float = 5) -> None:
    """Stop session leaders and all their children.

    Args:
        processes: processes to stop.
        seconds: time between the request to end and the kill.
    """
    family = [child for process in processes for child in _children(process)]
    for number in (signal.SIGTERM, signal.SIGKILL):  # the second also ends children that outlive their leader
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        end = time.monotonic() + seconds
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, end - time.monotonic()))
    for child in family:  # Airflow tasks lead their own sessions
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


def _children(process: subprocess.Popen[Any]) -> list[Any]:
    try:
        return list(psutil.Process(process.pid).children(recursive=True)) if process.poll() is None else []
    except psutil.NoSuchProcess:
        return []


@dataclass
class ProcessGroup:
    """A group of processes. Each leads a session and has a log in the folder.

    Attributes:
        root: folder of the logs.
        environment: environment of the processes. Secret.
        running: processes by name that must keep running.
    """

    root: Path
    environment: dict[str, str] = field(repr=False)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def log(self, name: str) -> Path:
        """Return the path of a process's log."""
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
        """Wait for the end of a process.

        Raises:
            ServiceUnavailable: the process failed.
        """
        if self.running[name].wait(TIMEOUT_SECONDS):
            raise self._ended(name)
        del self.running[name]

    def until(self, what: str, is_ready: Callable[[], bool]) -> None:
        """Wait until a condition is true.

        Raises:
            ServiceUnavailable: the time limit was reached, or a process ended.
        """
        end = time.monotonic() + TIMEOUT_SECONDS
        while time.monotonic() < end:
            self.check()
            with contextlib.suppress(OSError):
                if is_ready():
                    return
            time.sleep(0.25)
        raise ServiceUnavailable(
            f"no {what} after {TIMEOUT_SECONDS} s",
            where=str(self.root),
            fix="check the logs in the folder; a busy machine needs longer",
        )

    def check(self) -> None:
        """Check that all processes run.

        Raises:
            ServiceUnavailable: a process ended.
        """
        for name, process in self.running.items():
            if process.poll() is not None:
                raise self._ended(name)

    def stop(self, seconds: float = 5) -> None:
        """Stop all processes of the group."""
        stop_processes(*self.running.values(), seconds=seconds)

    def _ended(self, name: str) -> ServiceUnavailable:
        output = self.log(name).read_text(errors="replace")[-_LOG_CHARACTERS:].strip()
        return ServiceUnavailable(
            f"the process {name} ended",
            where=str(self.log(name)),
            got=output,
            fix="fix the reported problem and start again",
        )
