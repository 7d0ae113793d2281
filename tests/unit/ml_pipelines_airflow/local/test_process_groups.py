from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from ml_pipelines.errors import ServiceUnavailable
from ml_pipelines_airflow.local import process_groups as processes
from ml_pipelines_airflow.local.process_groups import ProcessGroup, find_free_port, stop_processes


def test_all_that_a_process_has_started_is_stopped() -> None:
    # A child in a session of its own, as a task of Airflow's is, that does not listen to SIGTERM.
    child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], start_new_session=True)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout
    with process.stdout as out:
        out.readline()
        (started,) = psutil.Process(process.pid).children(recursive=True)
        stop_processes(process, seconds=1)
    assert process.returncode is not None
    started.wait(60)
    stop_processes(process)


def test_a_port_is_free() -> None:
    with socket.create_server(("127.0.0.1", find_free_port())) as server:
        assert server.getsockname()[1] != find_free_port()


def test_a_process_that_ends_is_told_with_its_last_words(tmp_path: Path) -> None:
    created = ProcessGroup(tmp_path, {})
    created.start("scheduler", sys.executable, "-c", "raise SystemExit('no database')")
    with pytest.raises(ServiceUnavailable, match="the process scheduler ended") as error:
        created.until("health", lambda: False)
    assert (error.value.where, error.value.got) == (str(tmp_path / "scheduler.log"), "no database")
    with pytest.raises(ServiceUnavailable, match="the process scheduler ended"):
        created.finish("scheduler")
    created.stop()


def test_what_does_not_come_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "TIMEOUT_SECONDS", 0)
    with pytest.raises(ServiceUnavailable, match="no health after 0 s") as error:
        ProcessGroup(tmp_path, {}).until("health", lambda: True)
    assert error.value.fix == "check the logs in the folder; a busy machine needs longer"
