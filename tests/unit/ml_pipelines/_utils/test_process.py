"""Process identities: locality and liveness."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ml_pipelines._utils.process import has_ended, is_local_process, process_identity

CHILD = """
import sys
from ml_pipelines._utils.process import process_identity
print(process_identity(), flush=True)
sys.stdin.read()
"""


def test_current_process_is_local_and_running() -> None:
    assert is_local_process(process_identity())
    assert not has_ended(process_identity())


def test_killed_child_has_ended_before_it_is_reaped() -> None:
    with subprocess.Popen([sys.executable, "-c", CHILD], stdin=-1, stdout=-1, text=True) as child:
        assert child.stdout
        name = child.stdout.readline().strip()
        assert is_local_process(name)
        assert not has_ended(name)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert has_ended(name)
    assert has_ended(name)


def test_reused_pid_has_another_identity() -> None:
    host, pid, started = process_identity().split("~")
    assert has_ended(f"{host}~{pid}~{int(started) + 1}")


@pytest.mark.parametrize("name", ["elsewhere-1~1~1", "", "~", "~~", "nonsense"])
def test_foreign_identity_is_neither_local_nor_ended(name: str) -> None:
    assert not is_local_process(name)
    assert not has_ended(name)


def test_truncated_identity_has_not_ended() -> None:
    assert not has_ended(process_identity().partition("~")[0])
