from __future__ import annotations

import subprocess
import sys

import pytest

PROCESS = """
import atexit, gc
from ml_pipelines._utils import gc as _garbage

frozen = gc.get_freeze_count()  # of 3.12 itself, some hundred
atexit.register(lambda: print(gc.get_freeze_count() > frozen + 1000))  # comes after what is registered later
gc.set_threshold(700)
_garbage.{call}()
print(gc.get_threshold()[0], gc.get_freeze_count() == frozen)
"""


@pytest.mark.parametrize(("call", "threshold"), [("leave_garbage", "200000"), ("leave_garbage_at_the_end", "700")])
def test_the_end_of_a_process_has_no_garbage_to_look_for(call: str, threshold: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROCESS.format(call=call)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [threshold, "True", "True"]
