"""The identity of a process, whether a process with an identity still runs, and an environment for a child process."""

from __future__ import annotations

import functools
import getpass
import os
import socket
import sys
from pathlib import Path
from urllib.parse import quote

__all__ = ["environment_without_credentials", "has_ended", "is_local_process", "process_identity", "user_name"]

_PASSED_VARIABLES = (
    "HOME",
    "LANG",
    "LC_",
    "LD_",
    "MKL_",
    "ML_PIPELINES_CODE_",
    "ML_PIPELINES_TRUSTED_TYPES",
    "OMP_",
    "OPENBLAS_",
    "PATH",
    "PYTHON",
    "TMPDIR",
    "TZ",
    "VIRTUAL_ENV",
)


def environment_without_credentials() -> dict[str, str]:
    """Return the variables of this process that the interpreter, the libraries and allowed code need.

    The child imports from the places that this process imports from: Airflow adds folders to `sys.path`.
    """
    passed = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_VARIABLES)}
    return passed | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def process_identity() -> str:
    """Return the identity of this process: `host~pid~start`. The start time distinguishes reused pids."""
    return f"{_host()}~{os.getpid()}~{_start_time(os.getpid())}"


def user_name() -> str:
    """Return the name of the user that runs this process, for display."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the user id of a container may have no name
        return f"user {os.getuid()}"


def is_local_process(identity: str) -> bool:
    """Return whether a process identity belongs to this host and this process namespace."""
    return identity.partition("~")[0] == _host()


def has_ended(identity: str) -> bool:
    """Return whether the process with an identity has certainly ended; False if this host can't determine it."""
    host, _, process = identity.partition("~")
    pid, _, started = process.partition("~")
    return host == _host() and pid.isdecimal() and _start_time(int(pid)) != started


@functools.cache
def _host() -> str:
    # Containers can share a host name without sharing a process namespace.
    namespace = Path("/proc/self/ns/pid")
    inode = namespace.stat().st_ino if namespace.exists() else 0
    return f"{quote(socket.gethostname(), safe='').replace('~', '-')}-{inode}"


def _start_time(pid: int) -> str | None:
    """Return the start of a process in clock ticks since boot, "0" without /proc, or None if it does not run."""
    if not Path("/proc/self/stat").exists():
        return _signal(pid)
    try:
        # The fields follow the name in parentheses, which can contain spaces and parentheses itself.
        state, *fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in "ZX" else fields[18]


def _signal(pid: int) -> str | None:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "0"
