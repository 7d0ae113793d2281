"""Access to the running stack by REST, `docker`, its ledger and MLflow."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from tests.integration.airflow.server import Server, run_id_of

CHECKOUT = Path(__file__).resolve().parents[2]
ENTRIES = """
import json, os
from ml_pipelines.adapters.sql.ledger import SqlLedger
ledger = SqlLedger(os.environ["ML_PIPELINES_LEDGER"])
entries = [entry for model in ledger.models() for entry in ledger.entries(model, limit=10_000)]
print(json.dumps([entry.model_dump(mode="json") for entry in entries]))
"""


@dataclass
class Stack(Server):
    """The running stack with clients of its REST API and of `docker`."""

    def docker(self, *arguments: str, check: bool = True) -> str:
        """Run `docker` and return its output."""
        process = subprocess.run(
            ["docker", *arguments], env=self.environment, cwd=CHECKOUT, capture_output=True, text=True, check=False
        )
        assert not check or process.returncode == 0, f"docker {' '.join(arguments)}:\n{process.stdout}{process.stderr}"
        return process.stdout

    def compose(self, *arguments: str, check: bool = True) -> str:
        return self.docker("compose", "--env-file", str(self.root / "env"), *arguments, check=check)

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "--all", "--quiet", service).split()

    def secret(self, name: str) -> str:
        lines = (self.root / "env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)[name]

    def login(self) -> None:
        credentials = {"username": "admin", "password": self.secret("AIRFLOW_ADMIN_PASSWORD")}
        answer = self.session.post(f"{self.url}/auth/token", json=credentials, timeout=60)
        self.session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = self.session.request(method, f"{self.url}/api/v2{path}", json=body, timeout=120)
        if answer.status_code >= 500:  # its database is down; `until` tries again
            raise requests.ConnectionError(f"{method} {path}: {answer.status_code} {answer.text}")
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def tasks(self, run: str) -> dict[str, dict[str, Any]]:
        """Return the task instances of a run by name."""
        rows = self.call("GET", f"{run}/taskInstances")["task_instances"]
        return {
            f"{row['task_id']}[{row['map_index']}]" if row["map_index"] >= 0 else row["task_id"]: row for row in rows
        }

    def until_state(self, run: str, task: str, *states: str) -> dict[str, Any]:
        """Wait until a task instance has one of these states, and return it."""

        def reached() -> dict[str, Any] | None:
            row = self.tasks(run).get(task)
            return row if row and row["state"] in states else None

        return dict(self.until(f"{task} that is {' or '.join(states)}", reached))

    def queued(self, run: str) -> str | None:
        """Return the name of a task that waits for a worker, if there is one."""
        return next((name for name, row in self.tasks(run).items() if row["state"] == "queued"), None)

    def log_of(self, run: str, task: str, number: int) -> str:
        """Return the log of a try of a task."""
        path = f"{run}/taskInstances/{task.partition('[')[0]}/logs/{number}?full_content=true"
        return str(self.call("GET", f"{path}&map_index={self.tasks(run)[task]['map_index']}")["content"])

    def slots(self, pool: str, slots: int) -> None:
        """Set the number of slots of a pool."""
        self.call(
            "PATCH", f"/pools/{pool}?update_mask=slots", {"name": pool, "slots": slots, "include_deferred": False}
        )

    def kill(self, container: str) -> None:
        """Kill every process of a container from command, as a machine without memory does."""
        self.docker("exec", container, "python", "-c", "import os; os.kill(-1, 9)", check=False)

    def redis(self, *arguments: str) -> list[str]:
        """Return the lines of Redis' answer."""
        return self.compose("exec", "--no-TTY", "redis", "redis-cli", *arguments).strip().splitlines()

    def mlflow(self, method: str, path: str, **arguments: Any) -> Any:
        answer = requests.request(
            method,
            f"http://127.0.0.1:{self.environment['MLFLOW_PORT']}/api/2.0/mlflow/{path}",
            auth=("pipelines", self.secret("MLFLOW_PASSWORD")),
            timeout=120,
            **arguments,
        )
        if answer.status_code >= 500:
            raise requests.ConnectionError(f"{path}: {answer.status_code} {answer.text}")
        assert answer.ok, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    def ledger(self) -> list[dict[str, Any]]:
        """Return all entries, after `ml-pipelines ledger verify` has checked the hash chains and the registry."""
        variables = {
            "ML_PIPELINES_LEDGER": f"postgresql://ledger:{self.secret('LEDGER_DB_PASSWORD')}@postgres/ledger",
            "MLFLOW_TRACKING_PASSWORD": self.secret("MLFLOW_PASSWORD"),
            "MLFLOW_TRACKING_URI": "http://mlflow:5000",
            "MLFLOW_TRACKING_USERNAME": "pipelines",
        }
        options = [part for name, value in variables.items() for part in ("--env", f"{name}={value}")]
        command = ["exec", "--no-TTY", *options, "airflow-triggerer"]
        self.compose(*command, "ml-pipelines", "ledger", "verify")
        return list(json.loads(self.compose(*command, "python", "-c", ENTRIES).splitlines()[-1]))

    def mlflow_runs(self, experiment: str) -> list[dict[str, Any]]:
        """Return the MLflow runs of an experiment."""
        answer = self.mlflow("GET", "experiments/get-by-name", params={"experiment_name": experiment})
        query = {"experiment_ids": [answer["experiment"]["experiment_id"]], "max_results": 100}
        return list(self.mlflow("POST", "runs/search", json=query)["runs"])

    def assert_whole(
        self, *runs: str, model: str, trained: int, tries: int = 2, ledger: list[dict[str, Any]] | None = None
    ) -> None:
        """Check that nothing is lost or duplicated: each training has one MLflow run, and one version is the champion.

        Args:
            runs: paths of all Airflow runs of the pipeline; the first has trained, the others had no changes.
            model: name in the registry.
            trained: number of candidates.
            tries: maximum number of tries of a task.
            ledger: entries of the ledger; read if None.
        """
        ids = [run_id_of(run) for run in runs]
        rows = self.call("GET", f"{runs[0].rsplit('/', 1)[0]}?limit=100")["dag_runs"]
        assert sorted(run["dag_run_id"] for run in rows) == sorted(ids)
        for run in runs:
            tasks = self.tasks(run)
            states = {name: row["state"] for name, row in tasks.items()}
            assert set(states.values()) <= {"success", "skipped"}, states
            assert states["record_decision"] == "success"
            assert max(row["try_number"] for row in tasks.values()) <= tries
        trainings = self.mlflow_runs(model)
        names = Counter(
            (training["info"]["run_name"], tag["value"])
            for training in trainings
            for tag in training["data"]["tags"]
            if tag["key"] == "ml_pipelines.run_id"
        )
        assert set(names.values()) == {1}, names
        assert {run_id for _, run_id in names} == {ids[0]}
        assert len(trainings) == trained
        assert {training["info"]["status"] for training in trainings} == {"FINISHED"}
        versions = self.mlflow("GET", "model-versions/search", params={"filter": f"name='{model}'"})["model_versions"]
        assert len(versions) == 1
        registered = self.mlflow("GET", "registered-models/get", params={"name": model})["registered_model"]
        champion = {row["alias"]: row["version"] for row in registered["aliases"]}["champion"]
        assert champion == versions[0]["version"]
        entries = [entry for entry in (self.ledger() if ledger is None else ledger) if entry["model"] == model]
        assert [entry["run_id"] for entry in sorted(entries, key=lambda entry: int(entry["seq"]))] == ids
        assert {entry["supersedes"] for entry in entries} == {None}
        promoted = [entry["details"]["version"] for entry in entries if entry["decision"]["outcome"] == "promoted"]
        assert promoted == [champion]

    def log_tails(self) -> str:
        """Return the states and the last log lines of all containers."""
        return self.compose("ps", "--all", check=False) + self.compose("logs", "--tail", "60", check=False)
