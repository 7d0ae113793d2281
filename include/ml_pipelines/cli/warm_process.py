"""A process that imports the ML libraries, waits for the arguments of one command, and runs it.

`ml-pipelines run --watch` starts it ahead of a run. It imports no user code before the command, so each run has the
current sources.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from os import environ

__all__ = ["main", "run_command", "start"]

_MODULES = (
    "mlflow",
    "ml_pipelines.runner.partial_summary",
    "ml_pipelines.runner.training",
    "ml_pipelines.steps.training.evaluate",
    "ml_pipelines.steps.training.train",
)


def start() -> subprocess.Popen[bytes]:
    """Start the process. It ends when its standard input is closed without a command.

    A signal of the terminal, such as Ctrl-C, does not reach it.
    """
    return subprocess.Popen(
        # -P: no imports from the working directory.
        [sys.executable, "-P", "-m", "ml_pipelines.cli.warm_process"],
        # A cached module has the time of its source in seconds, so an edit in the same second would not be noticed.
        env={**environ, "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.PIPE,
        start_new_session=True,
    )


def run_command(process: subprocess.Popen[bytes], arguments: Sequence[str]) -> int:
    """Run a command in a started process and return its exit code."""
    with contextlib.suppress(BrokenPipeError):  # the process has ended; its exit code shows this
        process.communicate(json.dumps(arguments).encode() + b"\n")
    return process.wait()


def main() -> None:
    """Import, wait and run."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # an end before the command prints nothing
    for name in _MODULES:
        with contextlib.suppress(ImportError):  # the command reports a missing package if it needs it
            import_module(name)
    if not (line := sys.stdin.readline()):
        return
    sys.argv = ["ml-pipelines", *json.loads(line)]
    from ml_pipelines.cli.app import main as run

    signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


if __name__ == "__main__":
    main()
