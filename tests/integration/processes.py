"""Servers as processes of their own: MLflow's, and what the native stack has for all."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from ml_pipelines_airflow.local.process_groups import find_free_port, stop_processes

__all__ = ["SECONDS", "answers", "find_free_port", "mlflow_server", "stop_processes"]

SECONDS = 240  # until a server answers, on a busy machine


@contextlib.contextmanager
def mlflow_server(folder: Path, port: int) -> Iterator[str]:
    """The address of `mlflow server`, which answers when the block begins and is gone when it ends."""
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "served")),
    ]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    url, log = f"http://127.0.0.1:{port}", folder / "server.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, env=environment, cwd=folder, start_new_session=True
        )
    try:
        end = time.monotonic() + SECONDS
        while not answers(f"{url}/health"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        yield url
    finally:
        stop_processes(process)


def answers(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):  # noqa: S310 - of this machine
        return True
    return False
