"""Runs on a native Airflow on Celery: triggered over the API, measured from the trigger to the end of the run."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import requests
from tests.benchmarks.peers.contestants import BIN, QUIET, SAMPLE, SECONDS, bundle_of, declare

from ml_pipelines_airflow.local.process_groups import find_free_port
from ml_pipelines_airflow.local.stack import run_stack


class Airflow:
    """The API, as the user admin."""

    def __init__(self, url: str, password: str) -> None:
        self._url, self._session = f"{url}/api/v2", requests.Session()
        signed = self._session.post(
            f"{url}/auth/token", json={"username": "admin", "password": password}, timeout=60
        ).json()
        self._session.headers["Authorization"] = f"Bearer {signed['access_token']}"

    def call(self, method: str, path: str, body: Any = None) -> Any:
        answer = self._session.request(method, f"{self._url}{path}", json=body, timeout=60)
        return answer.json() if answer.ok else None

    def until(self, actual: Callable[[], Any]) -> Any:
        """What is found, as soon as it is."""
        end = time.monotonic() + SECONDS
        while not (value := actual()):
            if time.monotonic() > end:
                raise SystemExit("Airflow does not get on")
            time.sleep(0.1)
        return value


@contextlib.contextmanager
def started(place: Path) -> Iterator[tuple[Airflow, Path]]:
    """Start the stack in a new folder; its API, and the folder, whose `dags` are served."""
    root = place / "celery"
    shutil.rmtree(root, ignore_errors=True)
    (root / "dags").mkdir(parents=True)
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MLFLOW"))}
    settings = (
        variables
        | QUIET
        | {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": bundle_of(root),
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            "AIRFLOW__ML_PIPELINES__STORE": f"file://{root}/store",
        }
    )
    with run_stack(root, settings, port=find_free_port(), workers=1, durable=False, grace_seconds=5) as stack:
        password = json.loads((root / "secrets.json").read_text())["admin"]
        yield Airflow(stack.environment["AIRFLOW__API__BASE_URL"], password), root


@contextlib.contextmanager
def stack_runs(place: Path) -> Iterator[Callable[[Path], float | None]]:
    """Start the stack; gives a function that runs the pipeline of a folder, and says how many seconds it took.

    A pipeline has run before, whose time does not count: not only workers are slow at what they do for the first time,
    but MLflow's and Airflow's servers as well.
    """
    first = place / "first"
    shutil.rmtree(first, ignore_errors=True)
    first.mkdir()
    (first / "task.json").write_text(json.dumps({"source": str(SAMPLE), "trees": 100}))
    declare(first)
    with started(place) as (airflow, root):
        if _run(airflow, root, first) is None:
            raise SystemExit(f"the first pipeline on Celery has failed, see {root}/home/logs")
        yield lambda folder: _run(airflow, root, folder)


def _run(airflow: Airflow, root: Path, folder: Path) -> float | None:
    """Trigger the folder's pipeline under a name of its own, so that a new folder finds nothing of another's."""
    name = f"race-{folder.name}"
    if not (root / "dags" / f"{name}.py").exists():
        text = (folder / "dags" / "race.yaml").read_text().replace("name: race", f"name: {name}", 1)
        seed = sum(map(ord, name))  # another seed, other results
        (root / "dags" / f"{name}.yaml").write_text(f"{text}seed: {seed}\n")
        shutil.copy(folder / "dags" / "race.py", root / "dags" / f"{name}.py")
        airflow.until(lambda: airflow.call("PATCH", f"/dags/{name}", {"is_paused": False}))
    triggered = airflow.call("POST", f"/dags/{name}/dagRuns", {"logical_date": None})
    path = f"/dags/{name}/dagRuns/{triggered['dag_run_id']}"

    def ended() -> Any:
        run = airflow.call("GET", path)
        return run if run["state"] in ("success", "failed") else None

    run = airflow.until(ended)
    if run["state"] == "failed":
        return None
    return (datetime.fromisoformat(run["end_date"]) - datetime.fromisoformat(run["queued_at"])).total_seconds()
