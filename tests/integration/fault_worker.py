"""A process that runs `ml-pipelines` in forks of itself, with a fault in each.

Standard input: a JSON list of jobs a line; the jobs of a line run side by side. Standard output: for each line the
list of their exit codes, negative for a signal. A job:

    argv, environment, out, err     as for any program
    fault                           {"step", "at", "when", "do", "holding"}: what happens at the first call of
                                    `module:function` in a step, before or after it; `holding`: a text in its arguments
    link                            [port, server's port]: MLflow is behind a link that the fault can cut
    kill_after                      seconds after which the process is killed
    file_bytes                      limit of the size of a file, as on a full disk
    unprivileged                    give up root's rights
    clean                           try models in a process of its own, as a deployment does; else in this one, which
                                    has imported what that takes seconds for
    modules                         file for the names of the modules that the run imported; later forks have them
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

NOBODY = 65534
WARM = ["mlflow.sklearn", "mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store"]


class Link:
    """Passes connections on to a server until it is cut; after that, nobody listens at its port."""

    def __init__(self, port: int, to: int) -> None:
        self._to, self._open = to, True
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._listen, daemon=True).start()

    def cut(self) -> None:
        self._open = False
        for item in (self._listener, *(end for pair in self._pairs for end in pair)):
            with contextlib.suppress(OSError):
                item.shutdown(socket.SHUT_RDWR)
            item.close()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while self._open:
                pair = self._listener.accept()[0], socket.create_connection(("127.0.0.1", self._to))
                self._pairs.append(pair)
                threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            while True:
                for ready in select.select([near, far], [], [])[0]:
                    data = ready.recv(1 << 16)
                    if not data:
                        near.close(), far.close()
                    (far if ready is near else near).sendall(data)


def act(do: list[str], link: Link | None) -> None:
    match do:
        case ["kill"]:
            os.kill(os.getpid(), signal.SIGKILL)
        case ["cut"]:
            assert link is not None
            link.cut()
        case ["remove", path]:
            Path(path).unlink()
        case ["meet", folder, others]:
            (Path(folder) / str(os.getpid())).touch()
            deadline = time.monotonic() + 10
            while len(list(Path(folder).iterdir())) < int(others) and time.monotonic() < deadline:
                time.sleep(0.01)


def plant(fault: dict[str, Any], link: Link | None) -> None:
    """Let a function do something else as well, once."""
    import ml_pipelines.runner.training as pipeline

    state = {"step": "", "done": False}
    run_step = pipeline.run_step

    def named(request: Any, services: Any) -> Any:
        index = request.identity.map_index
        state["step"] = request.step if index < 0 else f"{request.step}[{index}]"
        return run_step(request, services)

    def happen(when: str, arguments: Any) -> None:
        here = when == fault["when"] and fault["step"] == state["step"] and fault.get("holding", "") in repr(arguments)
        if here and not state["done"]:
            state["done"] = True
            act(fault["do"], link)

    pipeline.run_step = named
    module, _, path = fault["at"].partition(":")
    *parents, name = path.split(".")
    owner: Any = functools.reduce(getattr, parents, importlib.import_module(module))
    original: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(original)
    def faulty(*arguments: Any, **named_arguments: Any) -> Any:
        happen("before", (arguments, named_arguments))
        result = original(*arguments, **named_arguments)
        happen("after", (arguments, named_arguments))
        return result

    setattr(owner, name, faulty)


def never_wait() -> None:
    """Nobody else is at work, so whoever waits for a lease waits for the dead."""
    import ml_pipelines.store.lease as lease

    def sleep(seconds: float) -> None:
        raise AssertionError("waited for the lease of a dead process")

    lease.time = SimpleNamespace(monotonic=time.monotonic, sleep=sleep)  # type: ignore[assignment]


def rehearse_here() -> None:
    from ml_pipelines.adapters.smoke_test import process as rehearsal
    from ml_pipelines.adapters.smoke_test import worker as rehearsing

    def answers(version: Any, data: bytes, training: Any, process: Any) -> Any:
        return rehearsing._predictions(data, where="", sha256=version.artifact.sha256, training=training)

    rehearsal.start = lambda: subprocess.Popen(["true"])
    rehearsal.predict_in_process = answers


def run(job: dict[str, Any], *, alone: bool) -> None:
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    if job.get("unprivileged") and os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    os.environ.update(job["environment"])
    sys.argv = ["ml-pipelines", *job["argv"]]
    link = Link(*job["link"]) if job.get("link") else None
    if alone:
        never_wait()
    if not job.get("clean"):
        rehearse_here()
    if job.get("fault"):
        plant(job["fault"], link)
    from ml_pipelines.cli.app import main

    main()


def fork(job: dict[str, Any], *, alone: bool) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        limit(job)
        run(job, alone=alone)
        code = 0
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 99
    finally:
        if job.get("modules"):
            Path(job["modules"]).write_text("\n".join(sys.modules))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def limit(job: dict[str, Any]) -> None:
    """Kill this process later, or limit the size of its files."""
    if job.get("kill_after") is not None:
        timer = threading.Timer(job["kill_after"], os.kill, (os.getpid(), signal.SIGKILL))
        timer.daemon = True
        timer.start()
    if job.get("file_bytes"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_bytes"], resource.RLIM_INFINITY))


def import_all(names: list[str]) -> None:
    """Import what a run has imported, so that later ones find it."""
    for name in names:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def main() -> None:
    import_all(WARM)
    for line in sys.stdin:
        jobs = json.loads(line)
        pids = [fork(job, alone=len(jobs) == 1) for job in jobs]
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        for job in jobs:
            if job.get("modules"):
                import_all(Path(job["modules"]).read_text().split())
        print(json.dumps(codes), flush=True)


if __name__ == "__main__":
    main()
