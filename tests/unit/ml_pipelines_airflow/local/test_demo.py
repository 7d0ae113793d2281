"""What the demo says and does before Airflow starts. It is run as a whole in tests/integration/airflow."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from ml_pipelines.errors import RequestError
from ml_pipelines_airflow.local import demo
from ml_pipelines_airflow.local.demo import Workspace

LOG = """\
[info     ] [DAG TEST] starting task_id=ingest_data map_index=-1 [airflow.sdk.definitions.dag]
[info     ] ml_pipelines step ingest done: cached in 0.1 s, run manual__1 [ml_pipelines_airflow.tasks.task_run]
[info     ] [DAG TEST] starting task_id=train_model map_index=0 [airflow.sdk.definitions.dag]
[info     ] Task instance state updated new_state=up_for_retry rows_affected=1
[info     ] ml_pipelines step train[linear] done: computed in 12.3 s, run manual__1 [ml_pipelines_airflow.tasks]
"""


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    text = io.StringIO()
    monkeypatch.setattr(demo, "out", Console(file=text, width=120, highlight=False))
    return text


def test_progress_is_told_by_step_and_the_whole_log_kept(said: io.StringIO) -> None:
    sink = io.StringIO()
    assert demo._follow(iter(LOG.splitlines(keepends=True)), sink) == "manual__1"
    assert sink.getvalue() == LOG
    lines = [line.split() for line in said.getvalue().splitlines()]
    assert lines[0] == ["ingest", "cached", "0.1", "s"]
    assert lines[1][:2] == ["train_model", "failed;"]
    assert lines[2] == ["train[linear]", "computed", "12.3", "s"]


def test_a_log_without_a_step_has_no_run(said: io.StringIO) -> None:
    assert demo._follow(iter(["Traceback\n"]), io.StringIO()) is None
    assert said.getvalue() == ""


def test_an_unknown_delivery_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(RequestError) as caught:
        Workspace(tmp_path / "workspace", tmp_path).prepare_data("2026-12")
    assert str(caught.value) == (
        "the delivery '2026-12' does not exist\n"
        "  expected: one of 2026-10, 2026-11\n"
        "  got: 2026-12\n"
        "  fix: make demo DATA=2026-11"
    )
    assert not (tmp_path / "workspace").exists()


def test_every_delivery_is_in_the_package() -> None:
    assert all((demo._sample_data() / f"customers-{name}.csv").is_file() for name in demo.DELIVERIES)


def test_everything_stays_in_the_workspace_and_on_this_machine(tmp_path: Path) -> None:
    environment = Workspace(tmp_path, tmp_path / "dags").environment(port=9090)
    assert environment["AIRFLOW_HOME"] == str(tmp_path / "airflow")
    assert (
        environment["AIRFLOW__ML_PIPELINES__STORE"] == environment["ML_PIPELINES_STORE"] == f"file://{tmp_path}/store"
    )
    assert environment["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    assert environment["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert environment["AIRFLOW__API__BASE_URL"] == "http://127.0.0.1:9090"
    assert environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:9090/execution/"
    (bundle,) = json.loads(environment["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"])
    assert bundle["kwargs"] == {"path": str(tmp_path / "dags")}


def test_settings_of_another_airflow_do_not_reach_into_the_workspace(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://production")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "http://production")
    monkeypatch.setenv("NOT_OURS", "kept")
    environment = Workspace(tmp_path, tmp_path / "dags").environment()
    assert "production" not in " ".join(environment.values())
    assert environment["NOT_OURS"] == "kept"


def test_a_command_that_fails_is_told_with_its_words(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, tmp_path / "dags")
    with pytest.raises(RequestError) as caught:
        workspace._call("git", "no-such-command", cwd=tmp_path)
    assert str(caught.value).startswith(f"`git no-such-command` failed\n  where: {tmp_path}\n")
    assert "'no-such-command' is not a git command" in caught.value.got
    assert "make clean" in caught.value.fix
