"""Who owns a lease or a temporary file, and whether it is still there."""

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


def test_this_process_is_alive_and_here() -> None:
    assert is_local_process(process_identity())
    assert not has_ended(process_identity())


def test_a_child_is_alive_until_it_is_killed_even_if_nobody_has_buried_it() -> None:
    with subprocess.Popen([sys.executable, "-c", CHILD], stdin=-1, stdout=-1, text=True) as child:
        assert child.stdout
        name = child.stdout.readline().strip()
        assert is_local_process(name)
        assert not has_ended(name)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert has_ended(name)
    assert has_ended(name)


def test_another_process_with_the_same_pid_is_not_the_owner() -> None:
    host, pid, started = process_identity().split("~")
    assert has_ended(f"{host}~{pid}~{int(started) + 1}")


@pytest.mark.parametrize("name", ["elsewhere-1~1~1", "", "~", "~~", "nonsense"])
def test_nobody_can_tell_of_another_host(name: str) -> None:
    assert not is_local_process(name)
    assert not has_ended(name)


def test_a_name_that_was_cut_off_is_not_dead() -> None:
    assert not has_ended(process_identity().partition("~")[0])
