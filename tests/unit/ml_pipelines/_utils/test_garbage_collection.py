from __future__ import annotations

import subprocess
import sys

import pytest

PROCESS = """
import atexit, gc
from ml_pipelines._utils import garbage_collection as _garbage

frozen = gc.get_freeze_count()  # of 3.12 itself, some hundred
atexit.register(lambda: print(gc.get_freeze_count() > frozen + 1000))  # comes after what is registered later
gc.set_threshold(700)
_garbage.{call}()
print(gc.get_threshold()[0], gc.get_freeze_count() == frozen)
"""


@pytest.mark.parametrize(
    ("call", "threshold"), [("limit_garbage_collection", "200000"), ("skip_final_collection", "700")]
)
def test_gc_settings_skip_the_final_collection(call: str, threshold: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROCESS.format(call=call)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [threshold, "True", "True"]
