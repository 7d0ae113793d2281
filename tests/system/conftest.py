"""The stack of docker-compose.airflow.yml, for these tests alone: a project, ports, secrets and DAGs of its own."""

from __future__ import annotations

import csv
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from tests.integration.airflow.conftest import COLUMNS, DAG_FILE, DECLARATION, write_data
from tests.integration.airflow.server import Server, run_id_of
from tests.integration.processes import find_port

HERE = Path(__file__).resolve().parents[2]
STACK = HERE / "include" / "docker" / "stack.py"
TRAINING = "ml_training_pipeline"
# Each trains on its own rows, so that what belongs to another would be seen.
SHOPS = {"shop_a": 300, "shop_b": 400, "shop_c": 500}
# A pipeline whose training takes a while, to be disturbed.
SLOW = "killed"
SLOW_CANDIDATE = {
    "name": "slow",
    "estimator": "sklearn.neural_network.MLPClassifier",
    "params": {"max_iter": 4000, "n_iter_no_change": 4000, "tol": 0.0, "hidden_layer_sizes": [50]},
}
CONTAINED = {"docker": {"memory": "1500m"}, "queue": "training", "pool": "training"}
DEFAULT_ARGS = {"owner": "tests", "retries": 6, "retry_delay": "5s"}


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

    def kill(self, container: str) -> None:
        """Kill every process of a container, by what is within it: as a machine would that runs out of memory."""
        self.docker("exec", container, "python", "-c", "import os; os.kill(-1, 9)", check=False)

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

    def assert_whole(self, run: str, *, model: str, trained: int, runs: int = 1) -> None:
        """Nothing is lost and nothing is there twice: each training wrote one MLflow run, and one version serves.

        Args:
            run: path of the Airflow run.
            model: its name in the registry.
            trained: how many candidates there are.
            runs: how many Airflow runs this pipeline has had.
        """
        states = {name: row["state"] for name, row in self.tasks(run).items()}
        assert set(states.values()) <= {"success", "skipped"}, states
        assert states["record_decision"] == "success"
        experiment = self.mlflow("GET", "experiments/get-by-name", params={"experiment_name": model})["experiment"]
        found = self.mlflow(
            "POST", "runs/search", json={"experiment_ids": [experiment["experiment_id"]], "max_results": 100}
        )["runs"]
        tags = [{tag["key"]: tag["value"] for tag in each["data"]["tags"]} for each in found]
        names = Counter(
            (each["info"]["run_name"], tag["ml_pipelines.run_id"]) for each, tag in zip(found, tags, strict=True)
        )
        assert set(names.values()) == {1}, names
        mine = [each for each, tag in zip(found, tags, strict=True) if tag["ml_pipelines.run_id"] == run_id_of(run)]
        assert {each["info"]["status"] for each in found} == {"FINISHED"}
        if runs == 1:
            assert len(mine) == trained
        versions = self.mlflow("GET", "model-versions/search", params={"filter": f"name='{model}'"})["model_versions"]
        assert len(versions) == 1
        registered = self.mlflow("GET", "registered-models/get", params={"name": model})["registered_model"]
        assert {each["alias"]: each["version"] for each in registered["aliases"]}["champion"] == versions[0]["version"]

    def printed(self) -> str:
        """The state of all containers, and what they said last."""
        return self.compose("ps", "--all", check=False) + self.compose("logs", "--tail", "60", check=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the stack said, beside a test that failed."""
    report = yield
    if report.failed and isinstance(stack := getattr(item, "funcargs", {}).get("stack"), Stack):
        report.sections.append(("stack", stack.printed()))
    return report


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole stack with two workers, started once as `make up` starts it; nothing of it stays."""
    root = tmp_path_factory.mktemp("stack")
    write_dags(dags := root / "dags")
    ports = {"AIRFLOW_PORT": str(find_port()), "MLFLOW_PORT": str(find_port())}
    environment = {
        **os.environ,
        **ports,
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{ports['AIRFLOW_PORT']}",
        "COMPOSE_FILE": f"{HERE / 'docker-compose.airflow.yml'}{os.pathsep}{Path(__file__).with_name('faster.yml')}",
        "COMPOSE_PROJECT_NAME": f"ml-pipelines-test-{secrets.token_hex(4)}",
        "DAGS_FOLDER": str(dags),
        "DOCKER_SOCKET": os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://"),
        "PYTHONPATH": str(HERE / "include"),
        "WORKERS": "2",
    }
    running = Stack(root, environment, None)
    try:
        command = [sys.executable, str(STACK), "--env-file", str(root / "env"), "up"]
        started, done = time.monotonic(), subprocess.run(command, env=environment, cwd=HERE, check=False)
        assert done.returncode == 0, f"the stack does not start: what it says is above\n{running.printed()}"
        print(f"the stack is up after {time.monotonic() - started:.0f} s")
        running.login()
        wanted = {TRAINING, SLOW, *SHOPS}
        running.until("DAGs", lambda: set(running.dags()) == wanted)
        running.unpause(*wanted)
        yield running
    finally:
        running.session.close()
        running.compose("down", "--volumes", "--timeout", "5", check=False)


def write_dags(folder: Path) -> None:
    """The pipelines and their data; every user may read them, as the containers' must."""
    folder.mkdir()
    # The shipped one, without its schedule: it would run once more, for last Sunday. It trains in containers.
    declared = yaml.safe_load((HERE / "dags" / f"{TRAINING}.yaml").read_text())
    del declared["schedule"]
    write_pipeline(folder, TRAINING, declared | {"runtime": {"train": CONTAINED}})
    write_data(folder)
    with (folder / "customers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for name, count in {**SHOPS, SLOW: len(rows)}.items():
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows[:count])
        data = DECLARATION["data"] | {"file": {"path": f"/opt/airflow/dags/{name}.csv"}}
        sections = {"model": {"name": name, "task": "classification"}, "data": data, "default_args": DEFAULT_ARGS}
        candidates = {"candidates": [SLOW_CANDIDATE]} if name == SLOW else {}
        write_pipeline(folder, name, DECLARATION | sections | candidates)
    for path in (*folder.iterdir(), folder, folder.parent):
        path.chmod(0o755 if path.is_dir() else 0o644)


def write_pipeline(folder: Path, name: str, declared: dict[str, Any]) -> None:
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(declared, sort_keys=False))
    (folder / f"{name}.py").write_text(DAG_FILE)


@pytest.fixture(scope="session", autouse=True)
def engine() -> None:
    """Fails, and says what to do, where there is no Docker engine."""
    docker = shutil.which("docker")
    done = subprocess.run([docker, "info"], capture_output=True, text=True, check=False) if docker else None
    if done is None or done.returncode:
        said = done.stderr.strip() if done else "there is no program docker"
        pytest.fail(f"these tests need a Docker engine: start one, or let DOCKER_HOST name it\n{said}", pytrace=False)
