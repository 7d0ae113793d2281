from __future__ import annotations

import gc
import logging
import sys
from pathlib import Path

import pytest

from ml_pipelines.pipeline.batch import BATCH_STEPS
from ml_pipelines.pipeline.training import TRAINING_STEPS
from ml_pipelines_airflow.execution import warm_local_executor, worker_process
from ml_pipelines_airflow.execution.preload import WARMUPS, modules, preload
from ml_pipelines_airflow.execution.warm_local_executor import WarmLocalExecutor

OPTION = "AIRFLOW__ML_PIPELINES__PRELOAD"


@pytest.fixture(autouse=True)
def _unfrozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OPTION, raising=False)
    monkeypatch.setattr(gc, "freeze", lambda: None)  # garbage of later tests must be collected
    monkeypatch.setattr(worker_process, "current", worker_process.Process())


def test_modules_include_every_module_of_a_step() -> None:
    steps = [*TRAINING_STEPS.values(), *BATCH_STEPS.values()]
    paths = [getattr(step, phase) for step in steps for phase in ("resolve", "compute", "publish")]
    assert {path.partition(":")[0] for path in paths if path} <= set(modules())
    assert len(modules()) == len(set(modules()))


@pytest.mark.parametrize(("value", "expected"), [("", ()), (" json , csv,json", ("json", "csv"))])
def test_modules_are_those_of_the_option(
    value: str, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(OPTION, value)
    assert modules() == expected


def test_modules_may_be_added_to_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    default = modules()
    monkeypatch.setenv(OPTION, "default,lightgbm")
    assert modules() == (*default, "lightgbm")


def test_preload_logs_and_leaves_out_a_module_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "breaks_when_imported.py").write_text("raise OSError('no licence')")
    (tmp_path / "imported_after_all.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(OPTION, "breaks_when_imported,there_is_no_such_module,imported_after_all")
    with caplog.at_level(logging.INFO, "ml_pipelines_airflow.execution.preload"):
        preload()
    first, second, last = caplog.messages
    assert first == "breaks_when_imported can't be preloaded: OSError: no licence"
    assert second.startswith("there_is_no_such_module can't be preloaded: ModuleNotFoundError: ")
    assert last.startswith("preloaded 1 modules and their imports in ")
    assert "imported_after_all" in sys.modules


@pytest.mark.parametrize("name", WARMUPS)
def test_preload_calls_the_warmups(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[str] = []
    monkeypatch.setattr(f"{name}.{WARMUPS[name]}", lambda: done.append(name))
    assert name in modules()
    monkeypatch.setenv(OPTION, name)
    with caplog.at_level(logging.WARNING, "ml_pipelines_airflow.execution.preload"):
        preload()
        assert done == [name]
        assert caplog.messages == []
        monkeypatch.setattr(f"{name}.{WARMUPS[name]}", lambda: 1 / 0)
        preload()
    assert caplog.messages == [f"{name} can't be preloaded: ZeroDivisionError: division by zero"]


@pytest.mark.parametrize(("preloaded", "forks"), [("ml_pipelines.modeling.skops_import", True), ("json", False)])
def test_preload_marks_the_process_for_forks_if_skops_is_imported(
    preloaded: str, forks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "ml_pipelines.modeling.skops_import", raising=False)
    monkeypatch.setenv(OPTION, preloaded)
    preload()
    assert worker_process.current.forks is forks


def test_executor_preloads_before_it_starts_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(warm_local_executor, "preload", lambda: done.append("preload"))
    monkeypatch.setattr("airflow.executors.local_executor.LocalExecutor.start", lambda self: done.append("start"))
    WarmLocalExecutor(parallelism=1).start()
    assert done == ["preload", "start"]
    assert WarmLocalExecutor.is_local
