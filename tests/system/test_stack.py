"""The stack does the work, and faults lose nothing: every run comes to its end, and nothing is there twice."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import requests
from tests.integration.airflow.server import run_id_of
from tests.system.pipelines import HERE, SHIPPED, SHOPS, TRAINING
from tests.system.stack import Stack

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]

RUNS = 4  # of each shop


def test_nobody_comes_in_without_a_password(stack: Stack) -> None:
    assert requests.get(f"{stack.url}/api/v2/dags", timeout=60).status_code == 401
    mlflow = f"http://127.0.0.1:{stack.environment['MLFLOW_PORT']}/api/2.0/mlflow/experiments/search"
    assert requests.post(mlflow, json={"max_results": 1}, timeout=60).status_code == 401


def test_the_shipped_pipeline_trains_a_champion_in_containers(stack: Stack) -> None:
    run = stack.trigger(TRAINING)
    assert stack.end_of(run) == "success"
    stack.assert_whole(run, model="customer-churn-model", trained=3)
    for number in range(3):
        assert "of ml-pipelines-training:local: 1500m, 1 CPUs" in stack.log_of(run, f"train_model[{number}]", 1)
    assert stack.docker("ps", "--all", "--quiet", "--filter", f"label=ml-pipelines.run={run_id_of(run)}") == ""
    assert {row["hostname"] for row in stack.tasks(run).values() if row["hostname"]} <= {
        container[:12] for container in stack.containers("airflow-worker")
    }


def test_twenty_runs_of_five_pipelines_at_once_do_not_meddle_with_each_other(stack: Stack) -> None:
    """The first of each trains; those after it find that nothing has changed. All work side by side on both workers."""
    runs = {name: [stack.trigger(name) for _ in range(RUNS)] for name in SHOPS}
    ends = {run: stack.end_of(run) for each in runs.values() for run in each}
    assert ends == dict.fromkeys(ends, "success")
    ledger, workers, tables = stack.ledger(), set(), {}
    for name, every in runs.items():
        every.sort(key=lambda run: str(stack.call("GET", run)["start_date"]))
        stack.assert_whole(*every, model=name, trained=2, ledger=ledger)
        tables[name] = set()
        for run in every:
            result = stack.call("GET", f"{run}/taskInstances/ingest_data/xcomEntries/result?deserialize=true")["value"]
            assert result["outputs"]["table"]["rows"] == SHOPS[name]
            tables[name].add(result["outputs"]["table"]["sha256"])
            workers |= {row["hostname"] for row in stack.tasks(run).values() if row["hostname"]}
        outcomes = {each["run_id"]: each["decision"]["outcome"] for each in ledger if each["model"] == name}
        assert [outcomes[run_id_of(run)] for run in every] == ["promoted", *["no_change"] * (RUNS - 1)]
        assert {each["pipeline"] for each in ledger if each["model"] == name} == {name}
        trained = [{tag["key"]: tag["value"] for tag in each["data"]["tags"]} for each in stack.mlflow_runs(name)]
        assert {tags["ml_pipelines.pipeline"] for tags in trained} == {name}
    assert [len(each) for each in tables.values()] == [1] * len(SHOPS)
    assert len(set.union(*tables.values())) == len(SHOPS)
    assert len(workers) == 2


def test_make_smoke_sees_that_all_dags_are_served(stack: Stack, tmp_path: Path) -> None:
    command = ["make", "smoke", f"ENV_FILE={stack.root / 'env'}", f"RELEASE={tmp_path / 'release.json'}"]
    done = subprocess.run(command, cwd=HERE, env=stack.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("of a bundle without versions, parsed without an error"), done.stdout
    assert all(dag in done.stdout.splitlines()[-1] for dag in (TRAINING, *SHIPPED)), done.stdout


def test_compose_warns_of_nothing(stack: Stack) -> None:
    command = ["docker", "compose", "--env-file", str(stack.root / "env"), "--profile", "*", "config", "--quiet"]
    done = subprocess.run(command, env=stack.environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
