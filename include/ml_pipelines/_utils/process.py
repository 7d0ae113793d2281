"""Which process something belongs to, and whether that process is still there."""

from __future__ import annotations

import functools
import getpass
import os
import socket
from pathlib import Path
from urllib.parse import quote

__all__ = ["has_ended", "is_local_process", "process_identity", "user_name"]


def process_identity() -> str:
    """This process as `host~pid~start`; told apart from a later one with the same pid by its start time."""
    return f"{_host()}~{os.getpid()}~{_started(os.getpid())}"


def user_name() -> str:
    """Who runs this process, for people to read."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number that has no name
        return f"user {os.getuid()}"


def is_local_process(name: str) -> bool:
    """Return whether a process identity belongs to this host and this process namespace."""
    return name.partition("~")[0] == _host()


def has_ended(name: str) -> bool:
    """Return whether a process identity belongs to a process that has certainly ended."""
    host, _, process = name.partition("~")
    pid, _, started = process.partition("~")
    return host == _host() and pid.isdecimal() and _started(int(pid)) != started


@functools.cache
def _host() -> str:
    # Containers may share a host name and yet not see each other's processes.
    namespace = Path("/proc/self/ns/pid")
    inode = namespace.stat().st_ino if namespace.exists() else 0
    return f"{quote(socket.gethostname(), safe='').replace('~', '-')}-{inode}"


def _started(pid: int) -> str | None:
    """When a process started, in clock ticks since boot; "0" where that isn't told; None if it doesn't run."""
    if not Path("/proc/self/stat").exists():
        return _answers(pid)
    try:
        # Fields after the name, which may hold anything, even spaces and parentheses.
        state, *fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in "ZX" else fields[18]


def _answers(pid: int) -> str | None:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "0"
