"""The doctor DAG. On real workers: tests/integration/airflow/celery."""

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
    """The part of a task instance that the tasks use; the XComs are those of the run."""

    pushed: dict[str, Any]

    def xcom_push(self, *, key: str, value: Any) -> None:
        assert key == "probe"
        self.pushed[self.task_id] = value

    def xcom_pull(self, *, task_ids: str, key: str) -> Any:
        assert key == "probe"
        return self.pushed[task_ids]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, TaskInstance]:
    """The tasks of a run by name, with a store in a temporary folder."""
    pushed: dict[str, Any] = {}
    use_store(monkeypatch, tmp_path / "store")
    monkeypatch.setattr(work, "run_diagnostics", lambda settings: WELL)
    monkeypatch.setattr("ml_pipelines_airflow.connections.airflow_settings", lambda: None)
    names = ("write_probe", "examine_default", "read_probes")
    return {name: TaskInstance(task_id=name, run_id="r", pushed=pushed) for name in names}


def use_store(monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    """Configure the store of this worker."""
    monkeypatch.setenv("AIRFLOW__ML_PIPELINES__STORE", f"file://{store}")


def test_doctor_dag_has_a_task_for_each_queue(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_doctor_dag_without_queues_uses_the_default_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW__ML_PIPELINES__DOCTOR_QUEUES", raising=False)
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_QUEUE", "main")
    assert [task.queue for task in doctor_dag().tasks] == ["main"] * 3


def test_workers_with_a_shared_store_read_each_others_probes(
    run: dict[str, TaskInstance], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        doctor.write_first_probe(ti=run["write_probe"])
        doctor.examine_worker(ti=run["examine_default"])
        doctor.read_all_probes(ti=run["read_probes"], task_ids=["examine_default"])
    assert "ok   git: /usr/bin/git" in caplog.text
    assert f"{socket.gethostname()} read the probe of {socket.gethostname()}: file://" in caplog.text
    probes = [ti.pushed[name]["sha256"] for name, ti in run.items() if name in ti.pushed]
    assert len(set(probes)) == 2


def test_examine_worker_raises_for_another_store(
    run: dict[str, TaskInstance], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    doctor.write_first_probe(ti=run["write_probe"])
    # The same path, but another folder.
    (tmp_path / "store").rename(tmp_path / "store of another machine")
    with pytest.raises(ArtifactMissing) as error:
        doctor.examine_worker(ti=run["examine_default"])
    assert error.value.where.startswith(f"file://{tmp_path}/store/objects/")
    assert error.value.got == f"nothing on host {socket.gethostname()}"
    assert "mount the store's folder here under the same path" in error.value.fix
    assert "examine_default" not in run["examine_default"].pushed


def test_examine_worker_raises_with_all_failed_checks(
    run: dict[str, TaskInstance], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = [
        Diagnostic("git", ok=False, detail="git is not on the PATH"),
        Diagnostic("MLflow", ok=False, detail="away"),
    ]
    monkeypatch.setattr(work, "run_diagnostics", lambda settings: [*wrong, *WELL])
    with pytest.raises(RequestError, match="this worker fails the checks: git, MLflow") as error:
        doctor.examine_worker(ti=run["examine_default"])
    assert error.value.where == f"host {socket.gethostname()}"
    assert error.value.got == "git is not on the PATH; away"
