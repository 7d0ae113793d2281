"""What a run costs beside the work: the shipped pipeline and a bare DAG of its shape, in turn, on a running Airflow.

AIRFLOW_API_URL, AIRFLOW_API_USER and AIRFLOW_API_PASSWORD name the Airflow, as for `make deploy`. The pipeline has to
be served there. The bare DAG is written into the folder that DAGs are read from, and removed again with its runs;
nothing is promoted.

.venv/bin/python tests/benchmarks/stack_overhead.py [dags folder] [rounds]
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import requests

PIPELINE, BARE = "ml_training_pipeline", "bare_training_pipeline"
# Everything is computed again each time, and nobody is asked.
CONF = {"force": True, "promote": "never"}
SECONDS = 1800  # for anything to happen

DAG_FILE = '''"""A bare Airflow DAG of the shape of a training pipeline, for tests/benchmarks/stack_overhead.py."""
from airflow.providers.standard.operators.python import BranchPythonOperator, PythonOperator
from airflow.sdk import DAG


def nothing(number=0):
    return number


def task(name, **options):
    return PythonOperator(task_id=name, python_callable=nothing, **options)


def branch(name, to):
    return BranchPythonOperator(task_id=name, python_callable=lambda: to)


with DAG("bare_training_pipeline", schedule=None, max_active_runs=1):
    ingest = task("ingest_data")
    compare = branch("compare_with_champion", "check_quality")
    check = branch("check_quality", "preprocess_data")
    poor = task("handle_poor_quality")
    preprocess, split = task("preprocess_data"), task("split_data")
    train = PythonOperator.partial(task_id="train_model", python_callable=nothing).expand(
        op_kwargs=[{"number": number} for number in range(3)]
    )
    evaluate = task("evaluate_model", trigger_rule="none_failed_min_one_success")
    decide = branch("decide", "keep_champion")
    approval = task("request_approval")
    keep = task("keep_champion", trigger_rule="none_failed_min_one_success")
    register = task("register_model", trigger_rule="none_failed_min_one_success")
    deploy = task("deploy_model")
    record = task("record_decision", trigger_rule="none_failed")
    ingest >> compare >> [check, keep]
    check >> [preprocess, poor]
    preprocess >> split >> train >> evaluate >> decide
    decide >> [register, approval, keep]
    approval >> register >> deploy
    [poor, keep, deploy] >> record
'''


@dataclass(frozen=True)
class Run:
    """Seconds of one run.

    Attributes:
        total: from trigger to done.
        worked: by the steps' own account, of mapped ones the longest.
        waited: of each task, from its being scheduled to its start.
        took: of each task, from start to end, without the step's own work.
    """

    total: float
    worked: float
    waited: list[float]
    took: list[float]


class Api:
    """Airflow's REST API."""

    def __init__(self) -> None:
        self._url = os.environ["AIRFLOW_API_URL"].rstrip("/")
        self._session = requests.Session()
        known = {"username": os.environ["AIRFLOW_API_USER"], "password": os.environ["AIRFLOW_API_PASSWORD"]}
        answer = self._session.post(f"{self._url}/auth/token", json=known, timeout=60)
        answer.raise_for_status()
        self._session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def call(self, method: str, path: str, body: Any = None) -> Any:
        answer = self._session.request(method, f"{self._url}/api/v2{path}", json=body, timeout=120)
        answer.raise_for_status()
        return answer.json() if answer.content else None


def until(what: str, found: Callable[[], Any]) -> Any:
    """What `found` gives, as soon as that is something."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.5)
    raise SystemExit(f"no {what} in {SECONDS} s")


def seconds(start: str, end: str) -> float:
    """Between two times as Airflow writes them."""
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def one_run(api: Api, dag: str) -> Run:
    """Trigger a DAG, and measure its run by Airflow's own times."""
    conf = CONF if dag == PIPELINE else {}
    run_id = api.call("POST", f"/dags/{dag}/dagRuns", {"logical_date": None, "conf": conf})["dag_run_id"]
    path = f"/dags/{dag}/dagRuns/{run_id}"
    run = until("end of a run", lambda: ended(api.call("GET", path)))
    if run["state"] != "success":
        raise SystemExit(f"run {run_id} of {dag} ended as {run['state']}")
    tasks = [each for each in api.call("GET", f"{path}/taskInstances")["task_instances"] if each["state"] == "success"]
    own = [step_seconds(api, path, each) if dag == PIPELINE else 0.0 for each in tasks]
    longest: dict[str, float] = {}
    for task, worked in zip(tasks, own, strict=True):
        longest[task["task_id"]] = max(worked, longest.get(task["task_id"], 0.0))
    return Run(
        total=seconds(run["queued_at"], run["end_date"]),
        worked=sum(longest.values()),
        waited=[seconds(task["scheduled_when"], task["start_date"]) for task in tasks],
        took=[task["duration"] - worked for task, worked in zip(tasks, own, strict=True)],
    )


def served(api: Api) -> set[str]:
    return {dag["dag_id"] for dag in api.call("GET", "/dags?exclude_stale=true&limit=100")["dags"]}


def ended(run: dict[str, Any]) -> dict[str, Any] | None:
    return run if run["state"] in ("success", "failed") else None


def step_seconds(api: Api, path: str, task: dict[str, Any]) -> float:
    """How long the step itself took; 0 for a task that is no step."""
    where = f"{path}/taskInstances/{task['task_id']}/xcomEntries"
    index = f"map_index={task['map_index']}"
    if "result" not in {each["key"] for each in api.call("GET", f"{where}?{index}")["xcom_entries"]}:
        return 0.0
    return float(api.call("GET", f"{where}/result?{index}&deserialize=true")["value"]["seconds"])


def show(what: str, ours: float, bare: float) -> None:
    print(f"{what:<52} ours {ours:6.2f} s, bare {bare:6.2f} s, ratio {ours / bare:.2f}", flush=True)


def report(ours: list[Run], bare: list[Run]) -> None:
    """Medians over runs, and over all tasks of all runs."""
    middle = statistics.median
    show("trigger to done", middle(run.total for run in ours), middle(run.total for run in bare))
    without = middle(run.total - run.worked for run in ours)
    show("the same without the steps' own work", without, middle(run.total for run in bare))
    for what, name in (
        ("a task, scheduled to started", "waited"),
        ("a task, started to ended, without the step's work", "took"),
    ):
        every = [[value for run in runs for value in getattr(run, name)] for runs in (ours, bare)]
        show(what, middle(every[0]), middle(every[1]))
    print(f"the steps' own work: {middle(run.worked for run in ours):.2f} s a run; tasks a run: {len(ours[0].took)}")


def main() -> None:
    """Measure and print."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "dags")
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    api, file = Api(), folder / f"{BARE}.py"
    file.write_text(DAG_FILE)
    file.chmod(0o644)
    try:
        until("DAGs", lambda: {PIPELINE, BARE} <= served(api))
        for dag in (PIPELINE, BARE):
            api.call("PATCH", f"/dags/{dag}", {"is_paused": False})
            one_run(api, dag)  # what is started first is slow
        measured: dict[str, list[Run]] = {PIPELINE: [], BARE: []}
        for _ in range(rounds):
            for dag, runs in measured.items():
                runs.append(one_run(api, dag))
        report(measured[PIPELINE], measured[BARE])
    finally:
        file.unlink()
        api.call("DELETE", f"/dags/{BARE}")


if __name__ == "__main__":
    main()
