"""A team's package as a bundle of DAGs: a run ends on the version that it began with, whatever is installed then."""

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
EVERY_SECOND = {"refresh_interval": 1}

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

from acme.features import VERSION as AT_THE_TOP

THIS_FILE = "{version}"


def tell(name, run_id, **_):
    from acme.features import VERSION
    from acme.late import VERSION as FIRST_IMPORTED_IN_THE_TASK

    told = Path(os.environ["TOLD"], run_id)
    told.mkdir(exist_ok=True)
    (told / name).write_text(" ".join([THIS_FILE, AT_THE_TOP, VERSION, FIRST_IMPORTED_IN_THE_TASK]))


def wait(run_id, **_):
    tell("second", run_id)
    Path(os.environ["GATE"]).read_text()  # a pipe: until the other end is closed


def ended(context):
    tell("callback", context["run_id"])


with DAG("acme", on_success_callback=ended) as dag:
    first = PythonOperator(task_id="first", python_callable=tell, op_kwargs={{"name": "first"}})
    second = PythonOperator(task_id="second", python_callable=wait)
    third = PythonOperator(task_id="third", python_callable=tell, op_kwargs={{"name": "third"}}, doc="of {version}")
    first >> second >> third
'''


def install(version: str, root: Path) -> None:
    """Build the team's wheel and install it where the running Airflow imports from."""
    project = root / f"acme-{version}"
    (project / "acme" / "dags").mkdir(parents=True)
    (project / "pyproject.toml").write_text(PROJECT.format(version=version))
    for module in ("__init__", "features", "late"):
        (project / "acme" / f"{module}.py").write_text(f'VERSION = "{version}"\n')
    (project / "acme" / "dags" / "acme_dag.py").write_text(DAG_FILE.format(version=version))
    build = ["build", "--wheel", "--no-build-isolation", "--python", sys.executable, "--out-dir", root, project]
    wheel = root / f"acme_models-{version}-py3-none-any.whl"
    into = ["pip", "install", "--offline", "--no-deps", "--python", sys.executable, "--target", root / "site", wheel]
    for command in (build, into):
        subprocess.run([find_uv_bin(), "--quiet", *map(str, command)], check=True, cwd=root)


@pytest.fixture(scope="module")
def server(make_airflow: Callable[[], Any]) -> Iterator[Server]:
    airflow = make_airflow()
    install("1.0", airflow.root)
    (airflow.root / "told").mkdir()
    os.mkfifo(airflow.root / "gate")
    ours = "ml_pipelines_airflow.bundles.package.PackageDagBundle"
    bundles = [
        {"name": "ml-pipelines", "classpath": ours, "kwargs": {}},
        {"name": "acme", "classpath": ours, "kwargs": {"package": "acme", **EVERY_SECOND}},
    ]
    environment = {
        # By default a DAG that was written less than 30 s ago is not written again.
        "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
        "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(airflow.root / "bundles"),
        "GATE": str(airflow.root / "gate"),
        "PYTHONPATH": str(airflow.root / "site"),
        "TOLD": str(airflow.root / "told"),
    }
    with standalone(airflow, "acme", *SHIPPED, **environment) as running:
        running.unpause("acme")
        yield running


def versions(server: Server) -> list[str]:
    """Of the bundle, one for each version of the DAG, oldest first."""
    rows = server.call("GET", "/dags/acme/dagVersions?order_by=version_number")["dag_versions"]
    return [row["bundle_version"] for row in rows]


def folder_of(server: Server, run: str) -> Path:
    """Where the tasks of a run write what they see."""
    return server.root / "told" / run_id_of(run)


def open_gate(server: Server, run: str) -> None:
    """Let the second task of a run go on, once it waits."""

    def opened() -> bool:
        state = server.call("GET", run)["state"]
        assert state in ("queued", "running"), state
        try:
            os.close(os.open(server.root / "gate", os.O_WRONLY | os.O_NONBLOCK))
        except OSError:  # nobody reads
            return False
        return True

    server.until("waiting task", opened)


def told(server: Server, run: str) -> dict[str, str]:
    """What the tasks of a run saw, and its callback, after its end."""
    assert server.end_of(run) == "success"
    folder = folder_of(server, run)
    server.until("callback", (folder / "callback").exists)
    return {path.name: path.read_text() for path in folder.iterdir()}


def processes(server: Server) -> set[int]:
    """Of Airflow's components; not those that live for one task or file."""
    parent = str(server.processes[STANDALONE].pid)
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", parent], capture_output=True, text=True, check=True)
    return {int(pid) for pid in listed.stdout.split()}


def test_the_packaged_dags_need_one_line(server: Server) -> None:
    assert server.call("GET", "/importErrors")["import_errors"] == []
    assert {"credit_risk", "ml_training_pipeline"} < set(server.dags())
    assert server.dags()["ml_training_pipeline"]["bundle_version"].startswith(f"{__version__}-")


def test_a_run_ends_on_the_version_that_it_began_with(server: Server) -> None:
    components = processes(server)
    old = server.trigger("acme")
    server.until("second task", (folder_of(server, old) / "second").exists)

    install("2.0", server.root)
    server.until("new version", lambda: len(versions(server)) == 2)
    assert server.call("GET", old)["state"] == "running"
    open_gate(server, old)
    assert told(server, old) == dict.fromkeys(("first", "second", "third", "callback"), "1.0 1.0 1.0 1.0")

    new = server.trigger("acme")
    open_gate(server, new)
    assert told(server, new) == dict.fromkeys(("first", "second", "third", "callback"), "2.0 2.0 2.0 2.0")

    first, second = versions(server)
    assert (first.partition("-")[0], second.partition("-")[0]) == ("1.0", "2.0")
    assert [server.call("GET", run)["bundle_version"] for run in (old, new)] == [first, second]
    numbers = [[each["version_number"] for each in server.call("GET", run)["dag_versions"]] for run in (old, new)]
    assert numbers == [[1], [2]]
    assert processes(server) == components, "something was restarted"
    assert server.call("GET", "/importErrors")["import_errors"] == []
