"""Runs on Celery workers with PostgreSQL as Airflow's database."""

from __future__ import annotations

import contextlib
import json
import re
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import requests
from tests.integration.airflow.celery.conftest import WORKERS
from tests.integration.airflow.server import SECONDS, Server

from ml_pipelines.adapters.mlflow.registry import MlflowRegistry
from ml_pipelines.adapters.sql.ledger import SqlLedger
from ml_pipelines.promotion.history import find_external_change
from ml_pipelines_airflow.local.postgres_and_redis import start_postgres, stop_postgres
from ml_pipelines_airflow.local.process_groups import ProcessGroup, stop_processes
from ml_pipelines_airflow.local.stack import start_mlflow

pytestmark = [pytest.mark.xdist_group("celery"), pytest.mark.timeout(900)]


def test_task_has_the_modules_of_its_worker(stack: Server) -> None:
    run = stack.trigger("warm")
    assert stack.end_of(run) == "success"
    assert stack.returned(run, "look") == ["mlflow.sklearn", "pandas", "sklearn.ensemble"]


def test_pipeline_trains_and_promotes_a_model(stack: Server) -> None:
    run = stack.trigger("small")
    assert stack.end_of(run) == "success"
    states = stack.states(run)
    assert {name for name, state in states.items() if state != "success"} == {
        "handle_poor_quality",
        "keep_champion",
        "request_approval",
    }
    assert set(states.values()) == {"success", "skipped"}
    assert {"train_model[0]", "train_model[1]", "register_and_deploy", "record_decision"} <= states.keys()
    entry = stack.entry(run)
    assert entry["decision"]["outcome"] == "promoted"
    assert entry["decision"]["candidate"] in ("linear", "tree")
    assert entry["run_url"].startswith(f"{stack.url}/dags/small/runs/")
    assert versions(stack, "small-model") == ["1"]
    queues = {row["task_id"]: row["queue"] for row in stack.call("GET", f"{run}/taskInstances")["task_instances"]}
    assert {task for task, queue in queues.items() if queue == "training"} == {"train_model"}
    log = str(stack.call("GET", f"{run}/taskInstances/register_and_deploy/logs/1?full_content=true")["content"])
    assert "small-model version 1: smoke test in a fork of this process" in log


def test_rolled_back_model_is_held_by_the_next_training(stack: Server) -> None:
    rows = stack.root / "data" / "customers.csv"
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:-100]))
    run = stack.trigger("small")
    assert stack.end_of(run) == "success"
    assert (stack.entry(run)["decision"]["outcome"], aliases(stack)) == ("promoted", {"champion": "2", "previous": "1"})
    form = {"model": "small-model", "version": "previous", "reason": "complaints"}
    run = stack.trigger("ml_model_rollback", conf=form)
    assert stack.end_of(run) == "success"
    entry = stack.entry(run)
    assert (entry["decision"]["outcome"], entry["decision"]["reason"]) == ("rolled_back", "complaints")
    assert (entry["details"]["version"], aliases(stack)) == ("1", {"champion": "1", "previous": "2"})
    run = stack.trigger("small")
    stack.until("question", lambda: stack.states(run).get("request_approval") in ("awaiting_input", "deferred"))
    assert aliases(stack) == {"champion": "1", "previous": "2"}
    stack.call("PATCH", run, {"state": "failed"})  # the test answers no request


def test_recovered_task_has_one_message_that_ends_green(stack: Server) -> None:
    run = stack.trigger("recovers")
    retrying = stack.message("recovers", "retrying|on try 2")
    assert "ConnectionError: the warehouse is down" in "\n".join(reply.shown for reply in retrying.replies)
    release(stack, "recovers")
    assert stack.end_of(run) == "success"
    shown = stack.message("recovers", "succeeded in").shown
    assert shown.startswith("🟢 recovers succeeded\n")
    assert "*flaky* recovered on try 2" in shown


def test_failed_mapped_task_is_named_with_its_log(stack: Server) -> None:
    run = stack.trigger("breaks")
    assert stack.end_of(run) == "failed"
    assert stack.states(run) == {"part[0]": "success", "part[1]": "failed", "part[2]": "success"}
    shown = stack.message("breaks", "failed after").shown
    assert shown.startswith("🔴 breaks failed\n")
    assert "*part[1]* failed · owner tests · " in shown
    assert "`ValueError: part 1 is &lt;empty&gt;`" in shown
    (link,) = re.findall(r"<([^|<>]+)\|log>", shown)
    assert link.startswith(f"{stack.url}/dags/breaks/runs/")
    assert link.endswith("/tasks/part/mapped/1?try_number=1")
    log = stack.call("GET", f"{run}/taskInstances/part/logs/1?map_index=1&full_content=true")
    assert "part 1 is <empty>" in str(log["content"])


def test_late_run_is_reported_once_in_its_message(stack: Server) -> None:
    run = stack.trigger("slow")
    shown = stack.message("slow", r" late \(").shown
    assert shown.startswith("🟡 slow is running, late\n")
    queued = datetime.fromisoformat(stack.call("GET", run)["queued_at"])
    due = f"due {queued + timedelta(seconds=5):%Y-%m-%d %H:%M} UTC, SLA 5 s"
    # On a busy machine the first task may not have started by then.
    assert re.search(rf"\*wait\* late \([a-z ]+\), {due}\n", shown)
    assert re.search(rf"\*after\* late \(not started\), {due}: wait ", shown)
    release(stack, "slow")
    assert stack.end_of(run) == "success"
    message = stack.message("slow", "succeeded in")
    assert message.shown.startswith("🟢 slow succeeded\n")
    assert " after its SLA" in message.shown
    assert message.replies == []


def test_doctor_examines_the_workers_of_all_queues(stack: Server) -> None:
    run = stack.trigger("ml_doctor")
    assert stack.end_of(run) == "success"
    assert set(stack.states(run)) == {"write_probe", "examine_default", "examine_training", "read_probes"}
    log = str(stack.call("GET", f"{run}/taskInstances/examine_training/logs/1?full_content=true")["content"])
    for what in ("packages", "git", "artifact store", "MLflow"):
        assert f"ok   {what}: " in log
    assert " read the probe of " in log


def test_killed_worker_costs_one_retry(stack: Server) -> None:
    run = stack.trigger("survives")
    worker = worker_of(stack, training(stack))
    process = stack.processes.pop(worker)
    for child in [*psutil.Process(process.pid).children(recursive=True), process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    process.wait()
    assert stack.end_of(run) == "success"
    rows = stack.call("GET", f"{run}/taskInstances")["task_instances"]
    tries = {f"{row['task_id']}[{row['map_index']}]": row["try_number"] for row in rows if row["state"] == "success"}
    assert max(tries.values()) == 2
    assert stack.entry(run)["decision"]["outcome"] == "promoted"
    assert sorted(runs(stack, "survives-model")) == ["forest", "large_forest"]
    assert versions(stack, "survives-model") == ["1"]


def test_restart_of_postgresql_costs_at_most_one_retry(stack: Server, postgres_folder: Path) -> None:
    run = stack.trigger("endures")
    training(stack)
    stop_postgres(postgres_folder)
    stack.until("outage", lambda: metadatabase(stack) == "unhealthy")
    start_postgres(postgres_folder, port=int(urlsplit(database(stack)).port or 0))
    assert supervised_end_of(stack, run) == "success"
    assert most_tries(stack, run) <= 2
    assert_one_champion(stack, run, {"champion": "1"})


def test_outage_of_mlflow_at_the_end_of_a_training_costs_retries(stack: Server) -> None:
    rows = stack.root / "data" / "customers.csv"
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:-50]))
    run = stack.trigger("endures")
    training(stack)
    stop_processes(stack.processes.pop("mlflow"))
    stack.until("end of the training", lambda: not list((stack.root / "store" / "leases" / "train").rglob("*.json")))
    processes = ProcessGroup(stack.root, stack.environment, stack.processes)
    start_mlflow(processes)
    assert stack.end_of(run) == "success"
    assert most_tries(stack, run) >= 2  # the number depends on the start time of MLflow
    assert_one_champion(stack, run, {"champion": "2", "previous": "1"})


def assert_one_champion(stack: Server, run: str, expected: dict[str, str]) -> None:
    """Check that registry and ledger agree on the champion of a run, and that nothing exists twice."""
    model, ledger = "endures-model", SqlLedger(stack.environment["ML_PIPELINES_LEDGER"])
    assert ledger.verify(model) == ()
    entry = stack.entry(run)
    assert entry["decision"]["outcome"] == "promoted"
    assert entry["details"]["version"] == expected["champion"]
    assert entry["details"].get("previous_version") == expected.get("previous")
    assert ledger.entries(model)[0].run_id == entry["run_id"]
    assert len(ledger.entries(model)) == int(expected["champion"])
    assert aliases(stack, model) == expected
    assert sorted(versions(stack, model)) == [str(number + 1) for number in range(int(expected["champion"]))]
    assert sorted(runs(stack, model)) == sorted(["forest", "large_forest"] * int(expected["champion"]))
    assert find_external_change(MlflowRegistry(stack.environment["MLFLOW_TRACKING_URI"]), ledger, model) is None


def most_tries(stack: Server, run: str) -> int:
    rows = stack.call("GET", f"{run}/taskInstances")["task_instances"]
    return max(row["try_number"] for row in rows)


def database(stack: Server) -> str:
    return stack.environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]


def metadatabase(stack: Server) -> str:
    """Return the state of Airflow's database in its health check."""
    return str(stack.session.get(f"{stack.url}/api/v2/monitor/health", timeout=60).json()["metadatabase"]["status"])


def supervised_end_of(stack: Server, run: str) -> str:
    """Wait for the end of a run, and restart components of Airflow that end, as a supervisor does."""
    processes = ProcessGroup(stack.root, stack.environment, stack.processes)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        for name, process in list(stack.processes.items()):
            if process.poll() is not None:
                processes.start(name, *process.args)
        with contextlib.suppress(requests.ConnectionError, requests.Timeout):
            answer = stack.session.get(f"{stack.url}/api/v2{run}", timeout=60)
            if answer.ok and answer.json()["state"] in ("success", "failed"):
                return str(answer.json()["state"])
        time.sleep(0.25)
    raise AssertionError(f"no end of the run in {SECONDS} s")


def training(stack: Server) -> int:
    """Wait for a training and return its process id."""
    leases = stack.root / "store" / "leases" / "train"
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        for lease in leases.rglob("*.json"):
            # The file may be incomplete, or removed.
            with contextlib.suppress(OSError, ValueError):
                return int(json.loads(lease.read_text())["owner"].split("~")[1])
        time.sleep(0.01)
    raise AssertionError(f"no training in {SECONDS} s")


def worker_of(stack: Server, process: int) -> str:
    ancestors = {parent.pid for parent in psutil.Process(process).parents()}
    (worker,) = [name for name in WORKERS if name in stack.processes and stack.processes[name].pid in ancestors]
    return worker


def mlflow(stack: Server, method: str, path: str, **options: Any) -> Any:
    url = f"{stack.environment['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/{path}"
    answer = requests.request(method, url, timeout=60, **options)
    assert answer.ok, answer.text
    return answer.json()


def versions(stack: Server, model: str) -> list[str]:
    answer = mlflow(stack, "GET", "model-versions/search", params={"filter": f"name='{model}'"})
    return [row["version"] for row in answer["model_versions"]]


def aliases(stack: Server, model: str = "small-model") -> dict[str, str]:
    """Return the versions of `champion` and `previous`."""
    rows = mlflow(stack, "GET", "registered-models/get", params={"name": model})["registered_model"]["aliases"]
    return {row["alias"]: row["version"] for row in rows if row["alias"] != "challenger"}


def runs(stack: Server, experiment: str) -> list[str]:
    """Return the names of all runs of an experiment."""
    experiment_id = mlflow(stack, "GET", "experiments/get-by-name", params={"experiment_name": experiment})[
        "experiment"
    ]["experiment_id"]
    answer = mlflow(stack, "POST", "runs/search", json={"experiment_ids": [experiment_id]})
    return [row["info"]["run_name"] for row in answer["runs"]]


def release(stack: Server, dag: str) -> None:
    """End the wait of a DAG's task."""
    Path(stack.environment["AIRFLOW_HOME"], f"{dag}.go").touch()
