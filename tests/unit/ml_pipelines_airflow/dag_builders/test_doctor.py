"""The DAG that looks at workers. On real ones: tests/integration/airflow/celery."""

from __future__ import annotations

import logging
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ml_pipelines.errors import ArtifactMissing, RequestError
from ml_pipelines.services import diagnostics as work
from ml_pipelines.services.diagnostics import Diagnostic
from ml_pipelines_airflow.dag_builders import doctor
from ml_pipelines_airflow.dag_builders.doctor import doctor_dag

WELL = [Diagnostic("git", ok=True, detail="/usr/bin/git"), Diagnostic("MLflow", ok=True, detail="answers")]


class TaskInstance(SimpleNamespace):
    """As much of a task instance as the tasks use; all of a run share what is pushed."""

    pushed: dict[str, Any]

    def xcom_push(self, *, key: str, value: Any) -> None:
        assert key == "probe"
        self.pushed[self.task_id] = value

    def xcom_pull(self, *, task_ids: str, key: str) -> Any:
        assert key == "probe"
        return self.pushed[task_ids]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, TaskInstance]:
    """The run's tasks by name, in a store of their own."""
    pushed: dict[str, Any] = {}
    stand(monkeypatch, tmp_path / "store")
    monkeypatch.setattr(work, "run_diagnostics", lambda settings: WELL)
    monkeypatch.setattr("ml_pipelines_airflow.connections.airflow_settings", lambda: None)
    names = ("write_probe", "examine_default", "read_probes")
    return {name: TaskInstance(task_id=name, run_id="r", pushed=pushed) for name in names}


def stand(monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    """Be a worker that has its store there."""
    monkeypatch.setenv("AIRFLOW__ML_PIPELINES__STORE", f"file://{store}")


def test_there_is_a_task_for_each_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__ML_PIPELINES__DOCTOR_QUEUES", "default, training/gpu ,")
    dag = doctor_dag()
    assert {task.task_id: task.queue for task in dag.tasks} == {
        "write_probe": "default",
        "examine_default": "default",
        "examine_training_gpu": "training/gpu",
        "read_probes": "default",
    }
    assert dag.get_task("read_probes").op_kwargs == {"task_ids": ["examine_default", "examine_training_gpu"]}
    assert dag.get_task("read_probes").upstream_task_ids == {"examine_default", "examine_training_gpu"}


def test_without_queues_it_is_the_default_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW__ML_PIPELINES__DOCTOR_QUEUES", raising=False)
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_QUEUE", "main")
    assert [task.queue for task in doctor_dag().tasks] == ["main"] * 3


def test_workers_that_share_a_store_are_well(run: dict[str, TaskInstance], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        doctor.leave(ti=run["write_probe"])
        doctor.look(ti=run["examine_default"])
        doctor.gather(ti=run["read_probes"], task_ids=["examine_default"])
    assert "ok   git: /usr/bin/git" in caplog.text
    assert f"{socket.gethostname()} read what {socket.gethostname()} has written: file://" in caplog.text
    probes = [ti.pushed[name]["sha256"] for name, ti in run.items() if name in ti.pushed]
    assert len(set(probes)) == 2


def test_a_worker_with_another_store_is_told_what_to_mount(
    run: dict[str, TaskInstance], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    doctor.leave(ti=run["write_probe"])
    # The same path, but not the same folder: what is written there can be read there.
    (tmp_path / "store").rename(tmp_path / "store of another machine")
    with pytest.raises(ArtifactMissing) as error:
        doctor.look(ti=run["examine_default"])
    assert error.value.where.startswith(f"file://{tmp_path}/store/objects/")
    assert error.value.got == f"nothing on host {socket.gethostname()}"
    assert "mount the store's folder here under the same path" in error.value.fix
    assert "examine_default" not in run["examine_default"].pushed


def test_what_a_worker_lacks_is_told_at_once(run: dict[str, TaskInstance], monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = [
        Diagnostic("git", ok=False, detail="git is not on the PATH"),
        Diagnostic("MLflow", ok=False, detail="away"),
    ]
    monkeypatch.setattr(work, "run_diagnostics", lambda settings: [*wrong, *WELL])
    with pytest.raises(RequestError, match="this worker can't do the work: git, MLflow") as error:
        doctor.look(ti=run["examine_default"])
    assert error.value.where == f"host {socket.gethostname()}"
    assert error.value.got == "git is not on the PATH; away"
    assert error.value.fix == "mend each of them on the workers of this queue"
