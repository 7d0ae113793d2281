"""The running stack as the tests speak with it: over REST, with `docker`, and by what its ledger and MLflow tell."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from tests.integration.airflow.server import Server, run_id_of

HERE = Path(__file__).resolve().parents[2]
ENTRIES = """
import json, os
from ml_pipelines.adapters.sql.ledger import SqlLedger
ledger = SqlLedger(os.environ["ML_PIPELINES_LEDGER"])
entries = [each for model in ledger.models() for each in ledger.entries(model, limit=10_000)]
print(json.dumps([each.model_dump(mode="json") for each in entries]))
"""


@dataclass
class Stack(Server):
    """The running stack; spoken to over its REST API, and with `docker`."""

    def docker(self, *arguments: str, check: bool = True) -> str:
        """Run `docker` with arguments; what it prints."""
        done = subprocess.run(
            ["docker", *arguments], env=self.environment, cwd=HERE, capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, f"docker {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
        return done.stdout

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
        if answer.status_code >= 500:  # its database is away; `until` asks again
            raise requests.ConnectionError(f"{method} {path}: {answer.status_code} {answer.text}")
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def tasks(self, run: str) -> dict[str, dict[str, Any]]:
        """The task instances of a run, by name."""
        rows = self.call("GET", f"{run}/taskInstances")["task_instances"]
        return {
            f"{row['task_id']}[{row['map_index']}]" if row["map_index"] >= 0 else row["task_id"]: row for row in rows
        }

    def until_state(self, run: str, task: str, *states: str) -> dict[str, Any]:
        """A task instance, as soon as it is in one of these states."""

        def reached() -> dict[str, Any] | None:
            row = self.tasks(run).get(task)
            return row if row and row["state"] in states else None

        return dict(self.until(f"{task} that is {' or '.join(states)}", reached))

    def queued(self, run: str) -> str | None:
        """The name of a task that waits for a worker, if there is one."""
        return next((name for name, row in self.tasks(run).items() if row["state"] == "queued"), None)

    def log_of(self, run: str, task: str, number: int) -> str:
        """What a try of a task has logged."""
        path = f"{run}/taskInstances/{task.partition('[')[0]}/logs/{number}?full_content=true"
        return str(self.call("GET", f"{path}&map_index={self.tasks(run)[task]['map_index']}")["content"])

    def slots(self, pool: str, slots: int) -> None:
        """Set how many tasks of a pool may run."""
        self.call(
            "PATCH", f"/pools/{pool}?update_mask=slots", {"name": pool, "slots": slots, "include_deferred": False}
        )

    def kill(self, container: str) -> None:
        """Kill every process of a container, by what is within it: as a machine would that runs out of memory."""
        self.docker("exec", container, "python", "-c", "import os; os.kill(-1, 9)", check=False)

    def redis(self, *arguments: str) -> list[str]:
        """What Redis answers, by line."""
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
        """All entries, of which `ml-pipelines ledger verify` says that chains are whole and the registry agrees."""
        variables = {
            "ML_PIPELINES_LEDGER": f"postgresql://ledger:{self.secret('LEDGER_DB_PASSWORD')}@postgres/ledger",
            "MLFLOW_TRACKING_PASSWORD": self.secret("MLFLOW_PASSWORD"),
            "MLFLOW_TRACKING_URI": "http://mlflow:5000",
            "MLFLOW_TRACKING_USERNAME": "pipelines",
        }
        given = [part for name, value in variables.items() for part in ("--env", f"{name}={value}")]
        within = ["exec", "--no-TTY", *given, "airflow-triggerer"]
        self.compose(*within, "ml-pipelines", "ledger", "verify")
        return list(json.loads(self.compose(*within, "python", "-c", ENTRIES).splitlines()[-1]))

    def mlflow_runs(self, experiment: str) -> list[dict[str, Any]]:
        """The MLflow runs of an experiment."""
        found = self.mlflow("GET", "experiments/get-by-name", params={"experiment_name": experiment})["experiment"]
        asked = {"experiment_ids": [found["experiment_id"]], "max_results": 100}
        return list(self.mlflow("POST", "runs/search", json=asked)["runs"])

    def assert_whole(
        self, *runs: str, model: str, trained: int, tries: int = 2, ledger: list[dict[str, Any]] | None = None
    ) -> None:
        """Nothing is lost and nothing is there twice: each training wrote one MLflow run, and one version serves.

        Args:
            runs: paths of all Airflow runs of the pipeline; the first has trained, the others have found nothing new.
            model: its name in the registry.
            trained: how many candidates there are.
            tries: how many tries a task may have taken.
            ledger: its entries, where they have been read already.
        """
        ids = [run_id_of(run) for run in runs]
        known = self.call("GET", f"{runs[0].rsplit('/', 1)[0]}?limit=100")["dag_runs"]
        assert sorted(run["dag_run_id"] for run in known) == sorted(ids)
        for run in runs:
            tasks = self.tasks(run)
            states = {name: row["state"] for name, row in tasks.items()}
            assert set(states.values()) <= {"success", "skipped"}, states
            assert states["record_decision"] == "success"
            assert max(row["try_number"] for row in tasks.values()) <= tries
        found = self.mlflow_runs(model)
        names = Counter(
            (each["info"]["run_name"], tag["value"])
            for each in found
            for tag in each["data"]["tags"]
            if tag["key"] == "ml_pipelines.run_id"
        )
        assert set(names.values()) == {1}, names
        assert {run_id for _, run_id in names} == {ids[0]}
        assert len(found) == trained
        assert {each["info"]["status"] for each in found} == {"FINISHED"}
        versions = self.mlflow("GET", "model-versions/search", params={"filter": f"name='{model}'"})["model_versions"]
        assert len(versions) == 1
        registered = self.mlflow("GET", "registered-models/get", params={"name": model})["registered_model"]
        champion = {each["alias"]: each["version"] for each in registered["aliases"]}["champion"]
        assert champion == versions[0]["version"]
        entries = [each for each in (self.ledger() if ledger is None else ledger) if each["model"] == model]
        assert [each["run_id"] for each in sorted(entries, key=lambda each: int(each["seq"]))] == ids
        assert {each["supersedes"] for each in entries} == {None}
        promoted = [each["details"]["version"] for each in entries if each["decision"]["outcome"] == "promoted"]
        assert promoted == [champion]

    def printed(self) -> str:
        """The state of all containers, and what they said last."""
        return self.compose("ps", "--all", check=False) + self.compose("logs", "--tail", "60", check=False)
