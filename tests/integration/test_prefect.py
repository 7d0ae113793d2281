"""The example flow, run by a Prefect 3 in an environment of its own, where there is no Airflow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
import yaml
from tests.integration.airflow.conftest import DECLARATION, write_data
from tests.integration.ledgers import entries_of
from tests.integration.processes import SECONDS, find_free_port, stop_processes
from tests.integration.test_wheel import HERE, build, installed, run

from ml_pipelines.contracts import StepResult
from ml_pipelines.store.artifact_store import ArtifactStore

pytestmark = [pytest.mark.xdist_group("prefect"), pytest.mark.timeout(900)]

EXAMPLE = HERE / "include" / "examples" / "prefect"
CRON = {"cron": "0 2 * * 0", "timezone": "Europe/Berlin"}
ENDLESS = (
    "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) AS customer_id, 0 AS label FROM n"
)
WITHOUT_CLOCK = ("ingest", "check_quality", "preprocess", "split")  # their artifacts tell no times


@dataclass(frozen=True)
class World:
    """Commands of an environment with Prefect, its server's address, and where the pipelines have what they make."""

    commands: Path
    root: Path
    url: str

    @property
    def environment(self) -> dict[str, str]:
        foreign = ("AIRFLOW", "ML_PIPELINES", "MLFLOW", "PREFECT", "PYTHONPATH", "VIRTUAL_ENV")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        return kept | {
            "DO_NOT_TRACK": "1",
            "ML_PIPELINES_LEDGER": f"sqlite:///{self.root}/ledger.db",
            "ML_PIPELINES_STORE": f"file://{self.root}/store",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.root}/mlflow.db",
            "PREFECT_API_URL": f"{self.url}/api",
            "PREFECT_HOME": f"{self.root}/prefect",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "SMALL_DATA": str(self.root),
        }

    def declare(self, name: str, **sections: Any) -> Path:
        file = self.root / f"{name}.yaml"
        file.write_text(yaml.safe_dump(DECLARATION | sections, sort_keys=False))
        return file

    def start(self, *command: str | Path, **environment: str) -> subprocess.Popen[bytes]:
        """Start a program; what it prints goes to a log by the name of the last argument."""
        with (self.root / f"{Path(command[-1]).stem}.log").open("wb") as log:
            return subprocess.Popen(
                [str(part) for part in command],
                cwd=self.root,
                env=self.environment | environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def flow(self, declaration: Path, **environment: str) -> subprocess.Popen[bytes]:
        return self.start(self.commands / "python", EXAMPLE / "flow.py", declaration, **environment)

    def printed(self, declaration: Path) -> str:
        return declaration.with_suffix(".log").read_text(errors="replace")

    def ask(self, kind: str) -> list[dict[str, Any]]:
        """All that Prefect's server knows of a kind."""
        answer = requests.post(f"{self.url}/api/{kind}/filter", json={}, timeout=60)
        assert answer.ok, answer.text
        return list(answer.json())


def until(what: str, found: Callable[[], Any]) -> Any:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        try:
            if value := found():
                return value
        except requests.ConnectionError:
            pass
        time.sleep(0.25)
    raise AssertionError(f"no {what} in {SECONDS} s")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("prefect")
    commands = installed(build(root), root / "venv", "[ml]", also=EXAMPLE / "requirements.txt")
    write_data(root)
    port = find_free_port()
    made = World(commands, root, f"http://127.0.0.1:{port}")
    server = made.start(
        commands / "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), PREFECT_API_URL=""
    )
    try:
        until("Prefect's server", lambda: requests.get(f"{made.url}/api/health", timeout=10).ok)
        yield made
    finally:
        stop_processes(server)


def results(store: Path, run_id: str) -> dict[str, StepResult]:
    found = ArtifactStore(f"file://{store}").run("small", run_id)
    return {f"{each.identity.task_id}[{each.identity.map_index}]": each.result for each in found}


def test_there_is_no_airflow(world: World) -> None:
    script = "from importlib.util import find_spec; print(find_spec('airflow'), find_spec('prefect') is not None)"
    assert run(world.commands / "python", "-c", script, cwd=world.root) == "None True\n"


def test_a_flow_makes_what_the_command_makes_and_finds_it_again(world: World, tmp_path: Path) -> None:
    small = world.declare("small")
    for outcome in ("promoted", "no_change"):
        assert world.flow(small).wait(600) == 0, world.printed(small)
        assert f"\n{outcome}: " in world.printed(small)
    ledger = world.environment["ML_PIPELINES_LEDGER"]
    second, first = entries_of(ledger)
    assert (first.decision.outcome, second.decision.outcome) == ("promoted", "no_change")
    flows = {each["id"]: each["state"]["type"] for each in world.ask("flow_runs")}
    assert flows == {first.run_id: "COMPLETED", second.run_id: "COMPLETED"}
    assert {name: each.status for name, each in results(world.root / "store", second.run_id).items()} == {
        "ingest[-1]": "cached",
        "compare_with_champion[-1]": "published",
        "record_decision[-1]": "published",
    }
    names = {each["name"] for each in world.ask("task_runs")}
    assert {"split", "train[linear]", "train[tree]", "deploy", "record_decision"} <= names
    # The command, of the environment that has Airflow: the store's keys and the artifacts are the same.
    places = {name: value.replace(str(world.root), str(tmp_path)) for name, value in world.environment.items()}
    own = places | {"SMALL_DATA": str(world.root)}
    command = Path(sys.executable).with_name("ml-pipelines")
    subprocess.run([command, "run", small, "--run-id", "cli"], check=True, cwd=tmp_path, env=own, capture_output=True)
    there, here = results(world.root / "store", first.run_id), results(tmp_path / "store", "cli")
    assert {name: (each.status, each.key) for name, each in there.items()} == {
        name: (each.status, each.key) for name, each in here.items()
    }
    for step in WITHOUT_CLOCK:
        ours, theirs = there[f"{step}[-1]"].outputs, here[f"{step}[-1]"].outputs
        assert {name: ref.sha256 for name, ref in ours.items()} == {name: ref.sha256 for name, ref in theirs.items()}


def test_what_may_pass_is_tried_again_what_may_not_is_not_and_time_is_limited(world: World) -> None:
    (world.root / "endless.db").touch()
    keys = {"key": "customer_id", "target": "label"}
    tried = {"retries": 1, "retry_delay": "0s"}
    gone = world.declare("gone", data={**keys, "file": {"path": "not-there.csv"}}, default_args=tried)
    away = world.declare("away", default_args=tried)
    endless = {**keys, "sql": {"url": f"sqlite:///{world.root}/endless.db", "query": ENDLESS}}
    late = world.declare("late", data=endless, default_args={"retries": 0, "execution_timeout": "10s"})
    nowhere = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{find_free_port()}"}
    before = {each["id"] for each in world.ask("task_runs")}
    flows = {gone: world.flow(gone), away: world.flow(away, **nowhere), late: world.flow(late)}
    for declaration, process in flows.items():
        assert process.wait(600) != 0, world.printed(declaration)
    assert "SourceNotFound" in world.printed(gone)
    assert "MLflow does not answer" in world.printed(away)
    assert "exceeded timeout of 10.0 second(s)" in world.printed(late)
    found = [each for each in world.ask("task_runs") if each["id"] not in before]
    failed = sorted((each["name"], each["state"]["name"], each["run_count"]) for each in found if failed_(each))
    assert failed == [("compare_with_champion", "Failed", 2), ("ingest", "Failed", 1), ("ingest", "TimedOut", 1)]
    # What was reading without end is gone with its time, and not only forgotten.
    sessions = {process.pid for process in flows.values()}
    until("end of the flows' processes", lambda: not [each for each in psutil.pids() if session(each) in sessions])


def failed_(task_run: dict[str, Any]) -> bool:
    return bool(task_run["state"]["type"] == "FAILED")


def session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def test_a_deployment_has_the_cron_of_the_declaration(world: World) -> None:
    weekly = world.declare("weekly", schedule=CRON)
    process = world.start(world.commands / "python", EXAMPLE / "flow.py", "--serve", weekly)
    try:
        (deployment,) = until("deployment", lambda: process.poll() is None and world.ask("deployments"))
        (schedule,) = deployment["schedules"]
        assert deployment["name"] == "weekly"
        assert deployment["parameters"] == {"declaration": str(weekly)}
        assert schedule["active"] is True
        assert {name: schedule["schedule"][name] for name in CRON} == CRON
        until("run that is due", lambda: [each for each in world.ask("flow_runs") if each["deployment_id"]])
        process.send_signal(signal.SIGINT)
        process.wait(SECONDS)
    finally:
        stop_processes(process)
