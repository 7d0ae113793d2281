"""A package of a team as a DAG bundle: a run ends with the version that it started with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.airflow.server import STANDALONE, Server, run_id_of, standalone
from uv import find_uv_bin

from ml_pipelines import __version__

pytestmark = [pytest.mark.xdist_group("airflow-standalone"), pytest.mark.timeout(900)]

SHIPPED = sorted(path.stem for path in (Path(__file__).parents[3] / "dags").glob("*.py"))
REFRESH = {"refresh_interval": 1}

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "acme-models"
version = "{version}"
requires-python = ">=3.11"

[tool.hatch.build.targets.wheel]
packages = ["acme"]
"""

DAG_FILE = '''"""An Airflow DAG of a team."""

import os
from pathlib import Path

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG

from acme.features import VERSION as IMPORTED_WITH_THE_FILE

FILE_VERSION = "{version}"


def record(name, run_id, **_):
    from acme.features import VERSION
    from acme.late import VERSION as IMPORTED_IN_THE_TASK

    folder = Path(os.environ["RECORDS"], run_id)
    folder.mkdir(exist_ok=True)
    versions = [FILE_VERSION, IMPORTED_WITH_THE_FILE, VERSION, IMPORTED_IN_THE_TASK]
    (folder / name).write_text(" ".join(versions))


def wait(run_id, **_):
    record("second", run_id)
    Path(os.environ["GATE"]).read_text()  # a pipe: reads until its writer closes it


def on_success(context):
    record("callback", context["run_id"])


with DAG("acme", on_success_callback=on_success) as dag:
    first = PythonOperator(task_id="first", python_callable=record, op_kwargs={{"name": "first"}})
    second = PythonOperator(task_id="second", python_callable=wait)
    third = PythonOperator(task_id="third", python_callable=record, op_kwargs={{"name": "third"}}, doc="of {version}")
    first >> second >> third
'''


def install(version: str, root: Path) -> None:
    """Build the wheel and install it into the import path of the running Airflow."""
    project = root / f"acme-{version}"
    (project / "acme" / "dags").mkdir(parents=True)
    (project / "pyproject.toml").write_text(PROJECT.format(version=version))
    for module in ("__init__", "features", "late"):
        (project / "acme" / f"{module}.py").write_text(f'VERSION = "{version}"\n')
    (project / "acme" / "dags" / "acme_dag.py").write_text(DAG_FILE.format(version=version))
    build = ["build", "--wheel", "--no-build-isolation", "--python", sys.executable, "--out-dir", root, project]
    wheel = root / f"acme_models-{version}-py3-none-any.whl"
    install_wheel = [
        "pip",
        "install",
        "--offline",
        "--no-deps",
        "--python",
        sys.executable,
        "--target",
        root / "site",
        wheel,
    ]
    for command in (build, install_wheel):
        subprocess.run([find_uv_bin(), "--quiet", *map(str, command)], check=True, cwd=root)


@pytest.fixture(scope="module")
def server(make_airflow: Callable[[], Any]) -> Iterator[Server]:
    airflow = make_airflow()
    install("1.0", airflow.root)
    (airflow.root / "records").mkdir()
    os.mkfifo(airflow.root / "gate")
    classpath = "ml_pipelines_airflow.bundles.package.PackageDagBundle"
    bundles = [
        {"name": "ml-pipelines", "classpath": classpath, "kwargs": {}},
        {"name": "acme", "classpath": classpath, "kwargs": {"package": "acme", **REFRESH}},
    ]
    environment = {
        # The default is 30 s between two versions of a DAG.
        "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
        "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(airflow.root / "bundles"),
        "GATE": str(airflow.root / "gate"),
        "PYTHONPATH": str(airflow.root / "site"),
        "RECORDS": str(airflow.root / "records"),
    }
    with standalone(airflow, "acme", *SHIPPED, **environment) as running:
        running.unpause("acme")
        yield running


def versions(server: Server) -> list[str]:
    """Return the bundle version of each DAG version, oldest first."""
    rows = server.call("GET", "/dags/acme/dagVersions?order_by=version_number")["dag_versions"]
    return [row["bundle_version"] for row in rows]


def folder_of(server: Server, run: str) -> Path:
    """Return the folder in which the tasks of a run record versions."""
    return server.root / "records" / run_id_of(run)


def open_gate(server: Server, run: str) -> None:
    """Wait until the second task of a run waits, and let it continue."""

    def opened() -> bool:
        state = server.call("GET", run)["state"]
        assert state in ("queued", "running"), state
        try:
            os.close(os.open(server.root / "gate", os.O_WRONLY | os.O_NONBLOCK))
        except OSError:  # no reader
            return False
        return True

    server.until("waiting task", opened)


def records(server: Server, run: str) -> dict[str, str]:
    """Wait for the end of a run and return the records of its tasks and its callback."""
    assert server.end_of(run) == "success"
    folder = folder_of(server, run)
    server.until("callback", (folder / "callback").exists)
    return {path.name: path.read_text() for path in folder.iterdir()}


def processes(server: Server) -> set[int]:
    """Return the process ids of Airflow's components, without those of single tasks and files."""
    parent = str(server.processes[STANDALONE].pid)
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", parent], capture_output=True, text=True, check=True)
    return {int(pid) for pid in listed.stdout.split()}


def test_packaged_dags_are_served(server: Server) -> None:
    assert server.call("GET", "/importErrors")["import_errors"] == []
    assert {"credit_risk", "ml_training_pipeline"} < set(server.dags())
    assert server.dags()["ml_training_pipeline"]["bundle_version"].startswith(f"{__version__}-")


def test_run_ends_with_the_version_that_it_started_with(server: Server) -> None:
    components = processes(server)
    old = server.trigger("acme")
    server.until("second task", (folder_of(server, old) / "second").exists)

    install("2.0", server.root)
    server.until("new version", lambda: len(versions(server)) == 2)
    assert server.call("GET", old)["state"] == "running"
    open_gate(server, old)
    assert records(server, old) == dict.fromkeys(("first", "second", "third", "callback"), "1.0 1.0 1.0 1.0")

    new = server.trigger("acme")
    open_gate(server, new)
    assert records(server, new) == dict.fromkeys(("first", "second", "third", "callback"), "2.0 2.0 2.0 2.0")

    first, second = versions(server)
    assert (first.partition("-")[0], second.partition("-")[0]) == ("1.0", "2.0")
    assert [server.call("GET", run)["bundle_version"] for run in (old, new)] == [first, second]
    numbers = [[row["version_number"] for row in server.call("GET", run)["dag_versions"]] for run in (old, new)]
    assert numbers == [[1], [2]]
    assert processes(server) == components, "a component was restarted"
    assert server.call("GET", "/importErrors")["import_errors"] == []
