"""The example flow with Prefect 3 in a separate environment without Airflow."""

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
DETERMINISTIC = ("ingest", "check_quality", "preprocess", "split")  # their artifacts contain no durations


@dataclass(frozen=True)
class PrefectEnvironment:
    """The commands of an environment with Prefect, the folder of the pipelines, and the address of the server."""

    commands: Path
    root: Path
    url: str

    @property
    def environment(self) -> dict[str, str]:
        prefixes = ("AIRFLOW", "ML_PIPELINES", "MLFLOW", "PREFECT", "PYTHONPATH", "VIRTUAL_ENV")
        variables = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
        return variables | {
            "DO_NOT_TRACK": "1",
            "ML_PIPELINES_LEDGER": f"sqlite:///{self.root}/ledger.db",
            "ML_PIPELINES_STORE": f"file://{self.root}/store",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.root}/mlflow.db",
            "PREFECT_API_URL": f"{self.url}/api",
            "PREFECT_HOME": f"{self.root}/prefect",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "ML_DATA_SMALL": str(self.root),
        }

    def declare(self, name: str, **sections: Any) -> Path:
        file = self.root / f"{name}.yaml"
        file.write_text(yaml.safe_dump(DECLARATION | sections, sort_keys=False))
        return file

    def start(self, *command: str | Path, **environment: str) -> subprocess.Popen[bytes]:
        """Start a program. The name of its log is that of the last argument."""
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

    def query(self, kind: str) -> list[dict[str, Any]]:
        """Return all objects of a kind from Prefect's server."""
        answer = requests.post(f"{self.url}/api/{kind}/filter", json={}, timeout=60)
        assert answer.ok, answer.text
        return list(answer.json())


def until(what: str, condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        try:
            if value := condition():
                return value
        except requests.ConnectionError:
            pass
        time.sleep(0.25)
    raise AssertionError(f"no {what} in {SECONDS} s")


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectEnvironment]:
    root = tmp_path_factory.mktemp("prefect")
    commands = installed(build(root), root / "venv", "[ml]", also=EXAMPLE / "requirements.txt")
    write_data(root)
    port = find_free_port()
    environment = PrefectEnvironment(commands, root, f"http://127.0.0.1:{port}")
    server = environment.start(
        commands / "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), PREFECT_API_URL=""
    )
    try:
        until("Prefect's server", lambda: requests.get(f"{environment.url}/api/health", timeout=10).ok)
        yield environment
    finally:
        stop_processes(server)


def results(store: Path, run_id: str) -> dict[str, StepResult]:
    records = ArtifactStore(f"file://{store}").run("small", run_id)
    return {f"{record.result.step}[{record.identity.map_index}]": record.result for record in records}


def test_environment_has_no_airflow(prefect: PrefectEnvironment) -> None:
    script = "from importlib.util import find_spec; print(find_spec('airflow'), find_spec('prefect') is not None)"
    assert run(prefect.commands / "python", "-c", script, cwd=prefect.root) == "None True\n"


def test_flow_has_the_results_of_the_command_and_reuses_them(prefect: PrefectEnvironment, tmp_path: Path) -> None:
    small = prefect.declare("small")
    for outcome in ("promoted", "no_change"):
        assert prefect.flow(small).wait(600) == 0, prefect.printed(small)
        assert f"\n{outcome}: " in prefect.printed(small)
    ledger = prefect.environment["ML_PIPELINES_LEDGER"]
    second, first = entries_of(ledger)
    assert (first.decision.outcome, second.decision.outcome) == ("promoted", "no_change")
    flows = {row["id"]: row["state"]["type"] for row in prefect.query("flow_runs")}
    assert flows == {first.run_id: "COMPLETED", second.run_id: "COMPLETED"}
    assert {name: result.status for name, result in results(prefect.root / "store", second.run_id).items()} == {
        "ingest[-1]": "cached",
        "compare_with_champion[-1]": "published",
        "record_decision[-1]": "published",
    }
    names = {row["name"] for row in prefect.query("task_runs")}
    assert {"split", "train[linear]", "train[tree]", "deploy", "record_decision"} <= names
    # The command runs in the environment with Airflow. Its keys and artifacts are equal.
    paths = {name: value.replace(str(prefect.root), str(tmp_path)) for name, value in prefect.environment.items()}
    own = paths | {"ML_DATA_SMALL": str(prefect.root)}
    command = Path(sys.executable).with_name("ml-pipelines")
    subprocess.run([command, "run", small, "--run-id", "cli"], check=True, cwd=tmp_path, env=own, capture_output=True)
    flow, command_line = results(prefect.root / "store", first.run_id), results(tmp_path / "store", "cli")
    assert {name: (result.status, result.key) for name, result in flow.items()} == {
        name: (result.status, result.key) for name, result in command_line.items()
    }
    for step in DETERMINISTIC:
        first_outputs, second_outputs = flow[f"{step}[-1]"].outputs, command_line[f"{step}[-1]"].outputs
        assert {name: ref.sha256 for name, ref in first_outputs.items()} == {
            name: ref.sha256 for name, ref in second_outputs.items()
        }


def test_transient_errors_are_retried_and_time_is_limited(prefect: PrefectEnvironment) -> None:
    (prefect.root / "endless.db").touch()
    keys = {"key": "customer_id", "target": "label"}
    retried = {"retries": 1, "retry_delay": "0s"}
    gone = prefect.declare("gone", data={**keys, "file": {"path": "not-there.csv"}}, default_args=retried)
    away = prefect.declare("away", default_args=retried)
    endless = {**keys, "sql": {"url": f"sqlite:///{prefect.root}/endless.db", "query": ENDLESS}}
    late = prefect.declare("late", data=endless, default_args={"retries": 0, "execution_timeout": "10s"})
    nowhere = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{find_free_port()}"}
    before = {row["id"] for row in prefect.query("task_runs")}
    flows = {gone: prefect.flow(gone), away: prefect.flow(away, **nowhere), late: prefect.flow(late)}
    for declaration, process in flows.items():
        assert process.wait(600) != 0, prefect.printed(declaration)
    assert "SourceNotFound" in prefect.printed(gone)
    assert "MLflow does not answer" in prefect.printed(away)
    assert "exceeded timeout of 10.0 second(s)" in prefect.printed(late)
    rows = [row for row in prefect.query("task_runs") if row["id"] not in before and has_failed(row)]
    failed = sorted((row["name"], row["state"]["name"], row["run_count"]) for row in rows)
    assert failed == [("compare_with_champion", "Failed", 2), ("ingest", "Failed", 1), ("ingest", "TimedOut", 1)]
    # The process of the endless query has ended.
    sessions = {process.pid for process in flows.values()}
    until("end of the flows' processes", lambda: not [pid for pid in psutil.pids() if session(pid) in sessions])


def has_failed(task_run: dict[str, Any]) -> bool:
    return bool(task_run["state"]["type"] == "FAILED")


def session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def interrupted(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process has ended after Ctrl-C, which is sent again: Prefect can miss a signal while it starts."""
    process.send_signal(signal.SIGINT)
    return process.poll() is not None


def test_deployment_has_the_cron_of_the_declaration(prefect: PrefectEnvironment) -> None:
    weekly = prefect.declare("weekly", schedule=CRON)
    process = prefect.start(prefect.commands / "python", EXAMPLE / "flow.py", "--serve", weekly)
    try:
        (deployment,) = until("deployment", lambda: process.poll() is None and prefect.query("deployments"))
        (schedule,) = deployment["schedules"]
        assert deployment["name"] == "weekly"
        assert deployment["parameters"] == {"declaration": str(weekly)}
        assert schedule["active"] is True
        assert {name: schedule["schedule"][name] for name in CRON} == CRON
        until("run that is due", lambda: [row for row in prefect.query("flow_runs") if row["deployment_id"]])
        until("end after Ctrl-C", lambda: interrupted(process))
    finally:
        stop_processes(process)
