"""Runs whose callbacks notify a fake Slack server over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ml_pipelines_airflow.fake_slack import SlackServer
from ml_pipelines_airflow.notifications.slack_callbacks import SlackRunNotifier

START = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch, store: Path) -> Iterator[SlackServer]:
    with SlackServer() as server:
        monkeypatch.setenv("AIRFLOW_CONN_SLACK_API_DEFAULT", server.connection())
        monkeypatch.setenv("AIRFLOW_CONN_SLACK_HOOK", server.webhook())
        yield server


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("AIRFLOW__ML_PIPELINES__STORE", f"file://{tmp_path}/store")
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://airflow")
    return tmp_path / "store"


@dataclass
class Run:
    """A run that calls the notifier as Airflow's callbacks do."""

    notifier: SlackRunNotifier
    dag_id: str = "churn"
    run_id: str = "manual__1"
    owner: str = "data-science"
    retries: int = 2
    cleared: int = 0
    dag_run: Any = field(init=False)

    def __post_init__(self) -> None:
        self.dag_run = SimpleNamespace(
            dag_id=self.dag_id, run_id=self.run_id, clear_number=0, start_date=START, end_date=None, state="running"
        )

    def report(
        self, task: str, state: str | None, *, try_number: int = 1, error: Any = None, **attributes: Any
    ) -> None:
        task_id, _, index = task.rstrip("]").partition("[")
        ti = SimpleNamespace(
            dag_id=self.dag_id,
            run_id=self.run_id,
            task_id=task_id,
            map_index=int(index) if index else -1,
            try_number=try_number,
            max_tries=self.retries,
            state=state,
            log_url=f"http://airflow/log/{task_id}/{try_number}",
            **{name: value for name, value in attributes.items() if name != "operator"},
        )
        operator = attributes.get("operator") or SimpleNamespace(owner=self.owner, task_id=task_id)
        self.notifier({"ti": ti, "task": operator, "dag_run": self.dag_run, "exception": error})

    def start(self, task: str, try_number: int = 1, **attributes: Any) -> None:
        self.report(task, "running", try_number=try_number, **attributes)

    def succeed(self, task: str, try_number: int = 1, **attributes: Any) -> None:
        self.report(task, "success", try_number=try_number, **attributes)

    def retry(self, task: str, try_number: int = 1, error: Any = None) -> None:
        self.report(task, "up_for_retry", try_number=try_number, error=error or RuntimeError("try again"))

    def fail(self, task: str, try_number: int = 3, error: Any = None) -> None:
        self.report(task, "failed", try_number=try_number, error=error or ValueError("boom"))

    def end(self, state: str = "success", *, seconds: float = 192) -> None:
        self.dag_run.state = state
        self.dag_run.end_date = START + timedelta(seconds=seconds)
        dag = SimpleNamespace(dag_id=self.dag_id)
        reason = "success" if state == "success" else "task_failure"
        self.notifier({"dag": dag, "run_id": self.run_id, "dag_run": self.dag_run, "reason": reason})

    def clear(self) -> None:
        self.dag_run.clear_number += 1
        self.dag_run.state, self.dag_run.end_date = "running", None


@pytest.fixture
def make_run() -> Callable[..., Run]:
    def make(run_id: str = "manual__1", **notifier: Any) -> Run:
        return Run(SlackRunNotifier(**{"channel": "#ml", **notifier}), run_id=run_id)

    return make


@pytest.fixture
def run(slack: SlackServer, make_run: Callable[..., Run]) -> Run:
    return make_run()
