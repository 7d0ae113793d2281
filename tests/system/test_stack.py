"""The stack does the work, and faults lose nothing: every run comes to its end, and nothing is there twice."""

from __future__ import annotations

import subprocess

import pytest
import requests
from tests.integration.airflow.server import run_id_of
from tests.system.conftest import SHOPS, TRAINING, Stack

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]


def test_nobody_comes_in_without_a_password(stack: Stack) -> None:
    assert requests.get(f"{stack.url}/api/v2/dags", timeout=60).status_code == 401
    mlflow = f"http://127.0.0.1:{stack.environment['MLFLOW_PORT']}/api/2.0/mlflow/experiments/search"
    assert requests.post(mlflow, json={"max_results": 1}, timeout=60).status_code == 401


def test_the_shipped_pipeline_trains_a_champion_in_containers(stack: Stack) -> None:
    run = stack.trigger(TRAINING)
    assert stack.end_of(run) == "success"
    stack.assert_whole(run, model="customer-churn-model", trained=3)
    for number in range(3):
        log = stack.call("GET", f"{run}/taskInstances/train_model/logs/1?map_index={number}")
        assert "of ml-pipelines-training:local: 1500m, 1 CPUs" in str(log), log
    assert stack.docker("ps", "--all", "--quiet", "--filter", f"label=ml-pipelines.run={run_id_of(run)}") == ""
    assert {row["hostname"] for row in stack.tasks(run).values() if row["hostname"]} <= {
        container[:12] for container in stack.containers("airflow-worker")
    }


def test_runs_that_start_at_once_do_not_meddle_with_each_other(stack: Stack) -> None:
    runs = {(name, number): stack.trigger(name) for number in range(2) for name in SHOPS}
    assert {key: stack.end_of(run) for key, run in runs.items()} == dict.fromkeys(runs, "success")
    workers = set()
    for (name, _), run in runs.items():
        stack.assert_whole(run, model=name, trained=2, runs=2)
        result = stack.call("GET", f"{run}/taskInstances/ingest_data/xcomEntries/result?deserialize=true")["value"]
        assert result["outputs"]["table"]["rows"] == SHOPS[name]
        workers |= {row["hostname"] for row in stack.tasks(run).values() if row["hostname"]}
    assert len(workers) == 2


def test_worker_and_scheduler_are_killed_in_the_middle_of_a_training(stack: Stack) -> None:
    run = stack.trigger("killed")
    worker = stack.until_state(run, "train_model[0]", "running")["hostname"]
    stack.kill(worker)
    stack.kill(stack.containers("airflow-scheduler")[0])
    assert stack.end_of(run) == "success"
    assert stack.tasks(run)["train_model[0]"]["try_number"] == 2
    stack.assert_whole(run, model="killed", trained=1)


def test_compose_warns_of_nothing(stack: Stack) -> None:
    command = ["docker", "compose", "--env-file", str(stack.root / "env"), "--profile", "*", "config", "--quiet"]
    done = subprocess.run(command, env=stack.environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
