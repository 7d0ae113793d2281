"""A running Airflow for these tests, with a client of its API."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from tests.integration.ledgers import entries_of
from tests.integration.processes import find_free_port, stop_processes

from ml_pipelines_airflow.fake_slack import Message, SlackServer

if TYPE_CHECKING:
    from tests.integration.airflow.conftest import Airflow

STANDALONE = "airflow standalone"
SECONDS = 600
"""Timeout of all waits, for busy machines."""
LOG_CHARACTERS = 3000
"""Length of each log in the report of a failed test."""


@dataclass
class Server:
    """A running Airflow, and the fake Slack server that it sends messages to. The client is the user admin."""

    root: Path
    environment: dict[str, str] = field(repr=False)
    slack: SlackServer | None
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    session: requests.Session = field(default_factory=requests.Session)

    @property
    def url(self) -> str:
        return self.environment["AIRFLOW__API__BASE_URL"]

    @property
    def messages(self) -> list[Message]:
        """The messages in Slack."""
        return self.slack.messages if self.slack else []

    def log(self, command: str) -> Path:
        return self.root / f"{'-'.join(command.split()[:3])}.log"

    def start(self, command: str) -> None:
        """Start a command in a new process group and with a new log."""
        with self.log(command).open("wb") as log:
            self.processes[command] = subprocess.Popen(
                command.split(),
                env=self.environment,
                cwd=self.root,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self) -> None:
        """Stop all started processes, and their tasks, which are in other process groups."""
        self.session.close()
        stop_processes(*self.processes.values())

    def log_tails(self) -> str:
        """Return the last characters of the logs of all processes and failed tasks."""
        failed = [path for path in self.root.glob("home/logs/dag_id=*/**/*.log") if '"error"' in path.read_text()]
        texts = {path: path.read_text(errors="replace") for path in [*sorted(self.root.glob("*.log")), *failed]}
        return "\n".join(f"{path.relative_to(self.root)}:\n{text[-LOG_CHARACTERS:]}" for path, text in texts.items())

    def until(self, what: str, condition: Callable[[], Any]) -> Any:
        """Wait until a function returns a true value, and return it."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            ended = [name for name, process in self.processes.items() if process.poll() is not None]
            assert not ended, f"{', '.join(ended)} has ended"
            with contextlib.suppress(requests.ConnectionError, requests.Timeout):
                if value := condition():
                    return value
            time.sleep(0.25)
        raise AssertionError(f"no {what} in {SECONDS} s")

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = self.session.request(method, f"{self.url}/api/v2{path}", json=body, timeout=120)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def login(self) -> None:
        """Wait for the API and log in. The server generates a password unless its settings have one."""
        self.until("API", lambda: self.session.get(f"{self.url}/api/v2/version", timeout=10).ok)
        generated = str(self.root / "home" / "simple_auth_manager_passwords.json.generated")
        passwords = Path(self.environment.get("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE", generated))
        credentials = {"username": "admin", "password": json.loads(passwords.read_text())["admin"]}
        answer = self.session.post(f"{self.url}/auth/token", json=credentials, timeout=60)
        self.session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def dags(self) -> dict[str, dict[str, Any]]:
        """Return all DAGs by id."""
        return {dag["dag_id"]: dag for dag in self.call("GET", "/dags?exclude_stale=true")["dags"]}

    def unpause(self, *dags: str) -> None:
        for dag in dags:
            self.call("PATCH", f"/dags/{dag}", {"is_paused": False})

    def parse(self, dag: str) -> None:
        """Parse the file of a DAG again."""

        def details() -> dict[str, Any]:
            return dict(self.call("GET", f"/dags/{dag}/details"))

        before = details()
        self.call("PUT", f"/parseDagFile/{before['file_token']}")
        self.until("another parse", lambda: details()["last_parsed_time"] != before["last_parsed_time"])

    def trigger(self, dag: str, **body: Any) -> str:
        """Start a run and return its path in the API."""
        run = self.call("POST", f"/dags/{dag}/dagRuns", {"logical_date": None, **body})
        return f"/dags/{dag}/dagRuns/{run['dag_run_id']}"

    def states(self, run: str) -> dict[str, str | None]:
        rows = self.call("GET", f"{run}/taskInstances")["task_instances"]
        return {
            f"{row['task_id']}[{row['map_index']}]" if row["map_index"] >= 0 else row["task_id"]: row["state"]
            for row in rows
        }

    def returned(self, run: str, task: str) -> Any:
        """Return the return value of a task."""
        value = self.call("GET", f"{run}/taskInstances/{task}/xcomEntries/return_value?deserialize=true")["value"]
        return json.loads(value) if isinstance(value, str) else value

    def end_of(self, run: str) -> str:
        """Wait for the end of a run and return its state."""

        def ended() -> str | None:
            state = self.call("GET", run)["state"]
            return state if state in ("success", "failed") else None

        return str(self.until("end of the run", ended))

    def await_question(self, run: str, task: str) -> dict[str, Any]:
        """Wait for an approval request and return it, once the scheduler has seen the end of its process.

        Airflow fails a task that is answered earlier: it queues the task again while its process counts as running.
        """
        task_key = f"task_id='{task}', run_id='{run_id_of(run)}'"
        log, ended = self.log(STANDALONE), re.compile(rf"executor event with state success .*{re.escape(task_key)}")

        def asked() -> bool:
            state, states = self.call("GET", run)["state"], self.states(run)
            assert state in ("queued", "running"), f"the run is {state}: {states}"
            return states[task] in ("awaiting_input", "deferred") and ended.search(log.read_text()) is not None

        self.until("question", asked)
        (details,) = self.call("GET", f"{run}/hitlDetails")["hitl_details"]
        return dict(details)

    def answer(self, run: str, task: str, choice: str) -> None:
        path = f"{run}/taskInstances/{task}/-1/hitlDetails"
        self.call("PATCH", path, {"chosen_options": [choice], "params_input": {}})

    def message(self, channel: str, *patterns: str) -> Message:
        """Wait until the only message of a channel contains all patterns, and return it."""

        def matching() -> Message | None:
            message = message_in(self.messages, channel)
            return message if message and all(re.search(pattern, message.shown) for pattern in patterns) else None

        message = self.until(f"message in #{channel} with {patterns}", matching)
        assert isinstance(message, Message)
        return message

    def entry(self, run: str) -> dict[str, Any]:
        """Return the only ledger entry of a run."""
        entries = entries_of(self.environment["ML_PIPELINES_LEDGER"])
        (entry,) = [entry for entry in entries if entry.run_id == run_id_of(run)]
        return entry.model_dump(mode="json")

    def champion(self) -> int | None:
        query = "select version from registered_model_aliases where name = 'small-model' and alias = 'champion'"
        with contextlib.closing(sqlite3.connect(self.root / "mlflow" / "mlflow.db")) as connection:
            row = connection.execute(query).fetchone()
        return int(row[0]) if row else None


def run_id_of(run: str) -> str:
    return run.rsplit("/", 1)[1]


def message_in(messages: Iterable[Message], channel: str) -> Message | None:
    """Return the only message of a channel, None without one."""
    in_channel = [message for message in messages if message.channel == f"C{channel.upper()}"]
    assert len(in_channel) < 2, [message.shown for message in in_channel]
    return in_channel[0] if in_channel else None


@contextlib.contextmanager
def server_of(airflow: Airflow, *, slack: SlackServer | None = None, **environment: str) -> Iterator[Server]:
    """Return a server with its settings, and stop its processes at the end. An error gets the logs as a note."""
    url = f"http://127.0.0.1:{find_free_port()}"
    settings = {
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": url.rsplit(":", 1)[1],
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(find_free_port()),
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(find_free_port()),
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",  # the first answer takes long on a busy machine
    }
    if slack:
        settings["AIRFLOW_CONN_SLACK_API_DEFAULT"] = slack.connection()
    server = Server(airflow.root, airflow.environment | settings | environment, slack)
    try:
        yield server
    except BaseException as exc:
        exc.add_note(server.log_tails())
        raise
    finally:
        server.stop()


@contextlib.contextmanager
def standalone(airflow: Airflow, *dags: str, **settings: Any) -> Iterator[Server]:
    """Start `airflow standalone` and wait until it has exactly these DAGs, which are paused."""
    with server_of(airflow, **settings) as server:
        server.start(STANDALONE)
        server.login()
        server.until("DAGs", lambda: set(server.dags()) == set(dags))
        yield server
