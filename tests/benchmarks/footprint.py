"""What having the provider installed costs who does not use it: time and modules, with it and without it, in turn.

.venv/bin/python tests/benchmarks/footprint.py            prints a table
.venv/bin/python tests/benchmarks/footprint.py --modules  prints the modules that it adds, as JSON

Both sides run in the same environment. One is told of the provider by the metadata that a wheel of the checkout would
have; from the other every metadata of the provider is hidden, so that Airflow does not find its entry points.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]
ROUNDS = 5

HIDE = """
import importlib
def hide(name, hidden={hidden!r}):
    try:
        finder = importlib.import_module(name).MetadataPathFinder
    except ModuleNotFoundError:
        return
    every = finder.find_distributions
    finder.find_distributions = classmethod(
        lambda cls, *context: (found for found in every(*context) if found.metadata["Name"] != hidden)
    )
hide("importlib.metadata")
hide("importlib_metadata")  # what Airflow reads, up to Python 3.11
"""
REPORT = """
import json, sys
print("\\n" + json.dumps(sorted(sys.modules)), file=sys.__stdout__)
"""
SITUATIONS = {
    "airflow version": """
import sys
from airflow.__main__ import main
sys.argv = ["airflow", "version"]
main()
""",
    # What the DAG processor loads before it forks, and what the fork does with a file that has nothing of ours.
    "parse of a DAG": """
from airflow.utils.providers_configuration_loader import providers_configuration_loaded
providers_configuration_loaded(lambda: None)()
from airflow.dag_processing import manager, processor
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.serialization.serialized_objects import DagSerialization
bag = BundleDagBag({folder!r}, bundle_path={folder!r}, bundle_name="bare")
assert not bag.import_errors and set(bag.dags) == {{"bare"}}, bag.import_errors
DagSerialization.to_dict(bag.dags["bare"])
""",
    # Up to the moment at which a worker's process calls the task.
    "start of a worker": """
from airflow.utils.providers_configuration_loader import providers_configuration_loaded
providers_configuration_loaded(lambda: None)()
from airflow.executors import local_executor
from airflow.providers.celery.executors import celery_executor_utils
from airflow.sdk.execution_time import supervisor, task_runner
from airflow.sdk.listener import get_listener_manager
get_listener_manager()
from airflow.dag_processing.dagbag import BundleDagBag
bag = BundleDagBag({folder!r}, bundle_path={folder!r}, bundle_name="bare", safe_mode=False, load_op_links=False)
assert set(bag.dags) == {{"bare"}}, bag.import_errors
from airflow.sdk.plugins_manager import integrate_macros_plugins
integrate_macros_plugins()
""",
}
BARE = '''"""A bare Airflow DAG."""
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG

with DAG("bare"):
    PythonOperator(task_id="task", python_callable=print)
'''


@dataclass(frozen=True)
class Measured:
    """One process: seconds of the processor, and the modules that it had loaded at its end."""

    seconds: float
    modules: frozenset[str]


def measured(situation: str, folder: Path, *, hidden: str) -> Measured:
    """Run a situation in a process of its own; `hidden` is the distribution that it does not see."""
    code = HIDE.format(hidden=hidden) + SITUATIONS[situation].format(folder=str(folder / "dags")) + REPORT
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")} | {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONPATH": str(folder / "metadata"),
    }
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stdout + done.stderr
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(seconds, frozenset(json.loads(done.stdout.splitlines()[-1])))


def prepare(folder: Path) -> str:
    """Write a bare DAG and the metadata that the checkout's wheel would have; gives the distribution's name."""
    (folder / "dags").mkdir()
    (folder / "dags" / "bare.py").write_text(BARE)
    (folder / "metadata").mkdir()
    code = f"import hatchling.build; hatchling.build.prepare_metadata_for_build_wheel({str(folder / 'metadata')!r})"
    subprocess.run([sys.executable, "-c", code], cwd=HERE, check=True, capture_output=True)
    subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"],
        env=os.environ | {"AIRFLOW_HOME": str(folder)},
        check=True,
        capture_output=True,
    )
    return "airflow-provider-ml-pipelines"


def added(situation: str, folder: Path, *, ours: str) -> list[str]:
    """The modules that are loaded only because the provider is installed."""
    with_it, without = (measured(situation, folder, hidden=hidden).modules for hidden in ("", ours))
    assert not [name for name in without if name.startswith("ml_pipelines")]
    return sorted(with_it - without)


def row(situation: str, folder: Path, *, ours: str) -> str:
    """Medians of several rounds, and the median of what each round's pair differs by."""
    rounds = [[measured(situation, folder, hidden=hidden) for hidden in ("", ours)] for _ in range(ROUNDS)]
    more = [with_it.seconds - without.seconds for with_it, without in rounds]
    seconds = [statistics.median(one[side].seconds for one in rounds) for side in (0, 1)]
    modules = [len(rounds[0][side].modules) for side in (0, 1)]
    return (
        f"{situation:<20} {seconds[0]:8.2f} {seconds[1]:8.2f} {statistics.median(more) * 1000:+10.0f} ms "
        f"{modules[0]:8} {modules[1]:8} {modules[0] - modules[1]:+6}"
    )


def main() -> None:
    """Print the table, or the modules."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--modules", action="store_true")
    only_modules = parser.parse_args().modules
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours = prepare(folder)
        if only_modules:
            print(json.dumps({situation: added(situation, folder, ours=ours) for situation in SITUATIONS}))
            return
        print(f"{'':<20} {'CPU seconds':>17} {'':>13} {'modules':>17}")
        print(f"{'':<20} {'with':>8} {'without':>8} {'added':>13} {'with':>8} {'without':>8} {'added':>6}")
        for situation in SITUATIONS:
            print(row(situation, folder, ours=ours), flush=True)


if __name__ == "__main__":
    main()
