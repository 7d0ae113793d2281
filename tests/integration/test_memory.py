"""The memory of the steps up to the split does not grow with the table."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARK = Path(__file__).resolve().parents[1] / "benchmarks" / "large_tables.py"
# VmHWM is the peak of this process alone; ru_maxrss starts with that of the parent process.
CHILD = """
import runpy, sys
from pathlib import Path
benchmark = runpy.run_path(sys.argv[1], run_name="benchmark")
for step in benchmark["OURS"]:
    benchmark["our_step"](step, Path(sys.argv[2]), Path(sys.argv[2]).parent)
status = Path("/proc/self/status").read_text().split()
print(int(status[status.index("VmHWM:") + 1]) * 1024)
"""

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc"),
]


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("large_tables", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def peak(benchmark: ModuleType, folder: Path, rows: int) -> tuple[int, int]:
    """Return the size of a table as CSV and the peak memory of a process with all steps up to the split, in bytes."""
    folder.mkdir()
    csv = folder / "customers.csv"
    benchmark.generate(csv, rows)
    command = [sys.executable, "-c", CHILD, str(BENCHMARK), str(csv)]
    environment = os.environ | {"ML_PIPELINES_CELLS_PER_GROUP": "50000"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return csv.stat().st_size, int(done.stdout)


def test_peak_memory_does_not_grow_with_the_table(benchmark: ModuleType, tmp_path: Path) -> None:
    size, used = peak(benchmark, tmp_path / "small", 200_000)
    larger, more = peak(benchmark, tmp_path / "large", 1_000_000)
    # A step with the whole table in memory needs at least the growth of the file, 83 MB. Otherwise the growth is 16
    # bytes for the hash of each key, 13 MB, and the variation between two runs, up to 12 MB.
    assert more - used < (larger - size) / 2
