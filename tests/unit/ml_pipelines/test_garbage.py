from __future__ import annotations

import subprocess
import sys

PROCESS = """
import atexit, gc
from ml_pipelines._garbage import leave_garbage

frozen = gc.get_freeze_count()  # of 3.12 itself, some hundred
atexit.register(lambda: print(gc.get_freeze_count() > frozen + 1000))  # comes after what is registered later
leave_garbage()
print(gc.get_threshold()[0], gc.get_freeze_count() == frozen)
"""


def test_the_end_of_a_process_has_no_garbage_to_look_for() -> None:
    done = subprocess.run([sys.executable, "-c", PROCESS], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["200000", "True", "True"]
