"""A running Airflow for these tests, and how one speaks with it."""

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

from ml_pipelines_airflow.testing import Message, SlackServer

if TYPE_CHECKING:
    from tests.integration.airflow.conftest import Airflow

STANDALONE = "airflow standalone"
SECONDS = 600  # for anything to happen, on a busy machine
LOG_CHARACTERS = 3000  # of each log, when a test fails


@dataclass
class Server:
    """A running Airflow and the Slack that it tells; spoken to as the user admin."""

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
        """What Slack shows now."""
        return self.slack.messages if self.slack else []

    def log(self, command: str) -> Path:
        return self.root / f"{'-'.join(command.split()[:3])}.log"

    def start(self, command: str) -> None:
        """Start a command, in a process group and with a log of its own."""
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
        """Stop all that was started, and tasks, which are in process groups of their own."""
        self.session.close()
        stop_processes(*self.processes.values())

    def printed(self) -> str:
        """The ends of the logs: of what was started, and of tasks that failed."""
        failed = [path for path in self.root.glob("home/logs/dag_id=*/**/*.log") if '"error"' in path.read_text()]
        texts = {path: path.read_text(errors="replace") for path in [*sorted(self.root.glob("*.log")), *failed]}
        return "\n".join(f"{path.relative_to(self.root)}:\n{text[-LOG_CHARACTERS:]}" for path, text in texts.items())

    def until(self, what: str, found: Callable[[], Any]) -> Any:
        """What `found` gives, as soon as that is something."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            ended = [name for name, process in self.processes.items() if process.poll() is not None]
            assert not ended, f"{', '.join(ended)} has ended"
            with contextlib.suppress(requests.ConnectionError, requests.Timeout):
                if value := found():
                    return value
            time.sleep(0.25)
        raise AssertionError(f"no {what} in {SECONDS} s")

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = self.session.request(method, f"{self.url}/api/v2{path}", json=body, timeout=120)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def login(self) -> None:
        """Log in, as soon as there is an API; the server has made up a password, unless its settings have one."""
        self.until("API", lambda: self.session.get(f"{self.url}/api/v2/version", timeout=10).ok)
        made_up = str(self.root / "home" / "simple_auth_manager_passwords.json.generated")
        passwords = Path(self.environment.get("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE", made_up))
        credentials = {"username": "admin", "password": json.loads(passwords.read_text())["admin"]}
        answer = self.session.post(f"{self.url}/auth/token", json=credentials, timeout=60)
        self.session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def dags(self) -> dict[str, dict[str, Any]]:
        """All DAGs that are served, by name."""
        return {dag["dag_id"]: dag for dag in self.call("GET", "/dags?exclude_stale=true")["dags"]}

    def unpause(self, *dags: str) -> None:
        for dag in dags:
            self.call("PATCH", f"/dags/{dag}", {"is_paused": False})

    def parse(self, dag: str) -> None:
        """Have a DAG's file parsed once more."""

        def details() -> dict[str, Any]:
            return dict(self.call("GET", f"/dags/{dag}/details"))

        before = details()
        self.call("PUT", f"/parseDagFile/{before['file_token']}")
        self.until("another parse", lambda: details()["last_parsed_time"] != before["last_parsed_time"])

    def trigger(self, dag: str, **body: Any) -> str:
        """Start a run; its path."""
        run = self.call("POST", f"/dags/{dag}/dagRuns", {"logical_date": None, **body})
        return f"/dags/{dag}/dagRuns/{run['dag_run_id']}"

    def states(self, run: str) -> dict[str, str | None]:
        rows = self.call("GET", f"{run}/taskInstances")["task_instances"]
        return {
            f"{row['task_id']}[{row['map_index']}]" if row["map_index"] >= 0 else row["task_id"]: row["state"]
            for row in rows
        }

    def returned(self, run: str, task: str) -> Any:
        """What a task gave back."""
        value = self.call("GET", f"{run}/taskInstances/{task}/xcomEntries/return_value?deserialize=true")["value"]
        return json.loads(value) if isinstance(value, str) else value

    def end_of(self, run: str) -> str:
        """How a run ends, once it does."""

        def ended() -> str | None:
            state = self.call("GET", run)["state"]
            return state if state in ("success", "failed") else None

        return str(self.until("end of the run", ended))

    def await_question(self, run: str, task: str) -> dict[str, Any]:
        """What a person is asked, as soon as the scheduler knows of the end of the process that asked.

        Airflow fails a task that is answered before that: it is queued again while its first process counts as running.
        """
        seen = f"task_id='{task}', run_id='{run_id_of(run)}'"
        log, ended = self.log(STANDALONE), re.compile(rf"executor event with state success .*{re.escape(seen)}")

        def asked() -> bool:
            state, states = self.call("GET", run)["state"], self.states(run)
            assert state in ("queued", "running"), f"the run is {state}: {states}"
            return states[task] in ("awaiting_input", "deferred") and ended.search(log.read_text()) is not None

        self.until("question", asked)
        (shown,) = self.call("GET", f"{run}/hitlDetails")["hitl_details"]
        return dict(shown)

    def answer(self, run: str, task: str, choice: str) -> None:
        path = f"{run}/taskInstances/{task}/-1/hitlDetails"
        self.call("PATCH", path, {"chosen_options": [choice], "params_input": {}})

    def message(self, channel: str, *patterns: str) -> Message:
        """The one message of a channel, as soon as all these patterns are in it."""

        def told() -> Message | None:
            found = message_in(self.messages, channel)
            return found if found and all(re.search(each, found.shown) for each in patterns) else None

        message = self.until(f"message in #{channel} with {patterns}", told)
        assert isinstance(message, Message)
        return message

    def entry(self, run: str) -> dict[str, Any]:
        """The ledger's one entry for a run."""
        every = entries_of(self.environment["ML_PIPELINES_LEDGER"])
        (entry,) = [entry for entry in every if entry.run_id == run_id_of(run)]
        return entry.model_dump(mode="json")

    def champion(self) -> int | None:
        query = "select version from registered_model_aliases where name = 'small-model' and alias = 'champion'"
        with contextlib.closing(sqlite3.connect(self.root / "mlflow" / "mlflow.db")) as connection:
            row = connection.execute(query).fetchone()
        return int(row[0]) if row else None


def run_id_of(run: str) -> str:
    return run.rsplit("/", 1)[1]


def message_in(messages: Iterable[Message], channel: str) -> Message | None:
    """The one message of a channel."""
    found = [each for each in messages if each.channel == f"C{channel.upper()}"]
    assert len(found) < 2, [each.shown for each in found]
    return found[0] if found else None


@contextlib.contextmanager
def server_of(airflow: Airflow, *, slack: SlackServer | None = None, **environment: str) -> Iterator[Server]:
    """A server with its settings; what it starts is stopped at the end. What fails meanwhile is told with its logs."""
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
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",  # a busy machine takes long for the first answer
    }
    if slack:
        settings["AIRFLOW_CONN_SLACK_API_DEFAULT"] = slack.connection()
    server = Server(airflow.root, airflow.environment | settings | environment, slack)
    try:
        yield server
    except BaseException as exc:
        exc.add_note(server.printed())
        raise
    finally:
        server.stop()


@contextlib.contextmanager
def standalone(airflow: Airflow, *dags: str, **settings: Any) -> Iterator[Server]:
    """`airflow standalone`, as soon as it serves exactly these DAGs, which are paused; settings as above."""
    with server_of(airflow, **settings) as server:
        server.start(STANDALONE)
        server.login()
        server.until("DAGs", lambda: set(server.dags()) == set(dags))
        yield server
