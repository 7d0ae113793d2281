"""What a run costs beside the work: a training pipeline and a bare DAG of its shape, in turn, on one native stack.

.venv/bin/python -m tests.benchmarks.stack_overhead [rounds]
"""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.benchmarks.peers.contestants import SAMPLE, declare
from tests.benchmarks.peers.race import PLACE
from tests.benchmarks.peers.stack_runs import Airflow, started

from ml_pipelines.spec.task_steps import TRAINING_TASKS

OURS, BARE = "ours", "bare"
# Everything is computed again each time, and nobody is asked.
CONF = {"force": True, "promote": "never"}

DAG_FILE = '''"""A bare Airflow DAG of the shape of a training pipeline, for tests/benchmarks/stack_overhead.py."""
from airflow.providers.standard.operators.python import BranchPythonOperator, PythonOperator
from airflow.sdk import DAG


def nothing(number=0):
    return number


def task(name, **options):
    return PythonOperator(task_id=name, python_callable=nothing, **options)


def branch(name, to, **options):
    return BranchPythonOperator(task_id=name, python_callable=lambda: to, **options)


with DAG("bare", schedule=None, max_active_runs=1):
    ingest = task("ingest_data")
    check = branch("check_quality", "preprocess_data")
    poor = task("handle_poor_quality")
    preprocess = task("preprocess_data")
    train = PythonOperator.partial(task_id="train_model", python_callable=nothing).expand(
        op_kwargs=[{"number": number} for number in range(1)]
    )
    evaluate = branch("evaluate_model", "keep_champion", trigger_rule="none_failed_min_one_success")
    approval = task("request_approval")
    keep = task("keep_champion", trigger_rule="none_failed_min_one_success")
    deploy = task("register_and_deploy", trigger_rule="none_failed_min_one_success")
    record = task("record_decision", trigger_rule="none_failed")
    ingest >> check >> [preprocess, poor, keep]
    preprocess >> train >> evaluate >> [deploy, approval, keep]
    approval >> deploy
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


def seconds(start: str, end: str) -> float:
    """Between two times as Airflow writes them."""
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def one_run(api: Airflow, dag: str) -> Run:
    """Trigger a DAG, and measure its run by Airflow's own times."""
    conf = CONF if dag == OURS else {}
    run_id = api.call("POST", f"/dags/{dag}/dagRuns", {"logical_date": None, "conf": conf})["dag_run_id"]
    path = f"/dags/{dag}/dagRuns/{run_id}"
    run = api.until(lambda: ended(api.call("GET", path)))
    if run["state"] != "success":
        raise SystemExit(f"run {run_id} of {dag} ended as {run['state']}")
    tasks = [item for item in api.call("GET", f"{path}/taskInstances")["task_instances"] if item["state"] == "success"]
    own = [step_seconds(api, path, item) if dag == OURS else 0.0 for item in tasks]
    longest: dict[str, float] = {}
    for task, worked in zip(tasks, own, strict=True):
        longest[task["task_id"]] = max(worked, longest.get(task["task_id"], 0.0))
    return Run(
        total=seconds(run["queued_at"], run["end_date"]),
        worked=sum(longest.values()),
        waited=[seconds(task["scheduled_when"], task["start_date"]) for task in tasks],
        took=[task["duration"] - worked for task, worked in zip(tasks, own, strict=True)],
    )


def ended(run: dict[str, Any]) -> dict[str, Any] | None:
    return run if run["state"] in ("success", "failed") else None


def step_seconds(api: Airflow, path: str, task: dict[str, Any]) -> float:
    """Return the time of the task's steps; 0 for a task without steps."""
    entries = f"{path}/taskInstances/{task['task_id']}/xcomEntries"
    index = f"map_index={task['map_index']}"
    keys = {entry["key"] for entry in api.call("GET", f"{entries}?{index}")["xcom_entries"]}
    steps = keys.intersection(TRAINING_TASKS.get(task["task_id"], ()))
    results = [api.call("GET", f"{entries}/{step}?{index}&deserialize=true")["value"] for step in steps]
    return sum(float(result["seconds"]) for result in results)


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
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with started(PLACE) as (api, root):
        (root / "task.json").write_text(json.dumps({"source": str(SAMPLE), "trees": 100}))
        declare(root, OURS)
        (root / "dags" / f"{BARE}.py").write_text(DAG_FILE)
        for dag in (OURS, BARE):
            api.until(lambda dag=dag: api.call("PATCH", f"/dags/{dag}", {"is_paused": False}))
            one_run(api, dag)  # what is started first is slow
        measured: dict[str, list[Run]] = {OURS: [], BARE: []}
        for _ in range(rounds):
            for dag, runs in measured.items():
                runs.append(one_run(api, dag))
        report(measured[OURS], measured[BARE])


if __name__ == "__main__":
    main()
