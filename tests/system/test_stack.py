"""Runs on the stack: every run ends, and nothing is lost or duplicated."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import requests
from tests.integration.airflow.server import run_id_of
from tests.system.pipelines import CHECKOUT, SHIPPED, SHOPS, TRAINING
from tests.system.stack import Stack

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]

RUNS = 4  # of each shop


def test_airflow_and_mlflow_require_a_password(stack: Stack) -> None:
    assert requests.get(f"{stack.url}/api/v2/dags", timeout=60).status_code == 401
    mlflow = f"http://127.0.0.1:{stack.environment['MLFLOW_PORT']}/api/2.0/mlflow/experiments/search"
    assert requests.post(mlflow, json={"max_results": 1}, timeout=60).status_code == 401


def test_shipped_pipeline_trains_in_containers(stack: Stack) -> None:
    run = stack.trigger(TRAINING)
    assert stack.end_of(run) == "success"
    stack.assert_whole(run, model="customer-churn-model", trained=3)
    for number in range(3):
        assert "of ml-pipelines-training:local: 1500m, 1 CPUs" in stack.log_of(run, f"train_model[{number}]", 1)
    assert stack.docker("ps", "--all", "--quiet", "--filter", f"label=ml-pipelines.run={run_id_of(run)}") == ""
    (keeper,) = stack.containers("keeper")
    unsigned = ("grep", "--recursive", "--files-without-match", "--extended-regexp", '"signature": "[0-9a-f]{128}"')
    assert stack.docker("exec", keeper, *unsigned, "/artifacts/manifests", check=False) == ""
    assert {row["hostname"] for row in stack.tasks(run).values() if row["hostname"]} <= {
        container[:12] for container in stack.containers("airflow-worker")
    }


def test_twenty_concurrent_runs_of_five_pipelines_are_independent(stack: Stack) -> None:
    # The first run of each pipeline trains; the later ones have no changes.
    runs = {name: [stack.trigger(name) for _ in range(RUNS)] for name in SHOPS}
    ends = {run: stack.end_of(run) for paths in runs.values() for run in paths}
    assert ends == dict.fromkeys(ends, "success")
    ledger, workers, tables = stack.ledger(), set(), {}
    for name, paths in runs.items():
        paths.sort(key=lambda run: str(stack.call("GET", run)["start_date"]))
        stack.assert_whole(*paths, model=name, trained=2, ledger=ledger)
        tables[name] = set()
        for run in paths:
            result = stack.call("GET", f"{run}/taskInstances/ingest_data/xcomEntries/ingest?deserialize=true")["value"]
            assert result["outputs"]["table"]["rows"] == SHOPS[name]
            tables[name].add(result["outputs"]["table"]["sha256"])
            workers |= {row["hostname"] for row in stack.tasks(run).values() if row["hostname"]}
        outcomes = {entry["run_id"]: entry["decision"]["outcome"] for entry in ledger if entry["model"] == name}
        assert [outcomes[run_id_of(run)] for run in paths] == ["promoted", *["no_change"] * (RUNS - 1)]
        assert {entry["pipeline"] for entry in ledger if entry["model"] == name} == {name}
        trained = [{tag["key"]: tag["value"] for tag in run["data"]["tags"]} for run in stack.mlflow_runs(name)]
        assert {tags["ml_pipelines.pipeline"] for tags in trained} == {name}
    assert [len(digests) for digests in tables.values()] == [1] * len(SHOPS)
    assert len(set.union(*tables.values())) == len(SHOPS)
    assert len(workers) == 2


def test_make_smoke_reports_all_dags(stack: Stack, tmp_path: Path) -> None:
    command = ["make", "smoke", f"ENV_FILE={stack.root / 'env'}", f"RELEASE={tmp_path / 'release.json'}"]
    process = subprocess.run(command, cwd=CHECKOUT, env=stack.environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    assert process.stdout.rstrip().endswith("of a bundle without versions without import errors"), process.stdout
    assert all(dag in process.stdout.splitlines()[-1] for dag in (TRAINING, *SHIPPED)), process.stdout


def test_compose_file_has_no_warnings(stack: Stack) -> None:
    command = ["docker", "compose", "--env-file", str(stack.root / "env"), "--profile", "*", "config", "--quiet"]
    process = subprocess.run(command, env=stack.environment, capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")
