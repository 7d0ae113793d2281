from __future__ import annotations

import gc
import logging
import sys
from pathlib import Path

import pytest

from ml_pipelines.pipeline.batch import BATCH_STEPS
from ml_pipelines.pipeline.training import TRAINING_STEPS
from ml_pipelines_airflow.execution import executors, process
from ml_pipelines_airflow.execution.executors import WarmLocalExecutor
from ml_pipelines_airflow.execution.preload import FIRST_USES, modules, preload

OPTION = "AIRFLOW__ML_PIPELINES__PRELOAD"


@pytest.fixture(autouse=True)
def _unfrozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OPTION, raising=False)
    monkeypatch.setattr(gc, "freeze", lambda: None)  # this process has tests to collect after
    monkeypatch.setattr(process, "current", process.Process())


def test_every_module_of_a_step_is_preloaded() -> None:
    steps = [*TRAINING_STEPS.values(), *BATCH_STEPS.values()]
    named = [getattr(step, phase) for step in steps for phase in ("resolve", "compute", "publish")]
    assert {path.partition(":")[0] for path in named if path} <= set(modules())
    assert len(modules()) == len(set(modules()))


@pytest.mark.parametrize(("value", "expected"), [("", ()), (" json , csv,json", ("json", "csv"))])
def test_the_option_names_the_modules(value: str, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OPTION, value)
    assert modules() == expected


def test_default_may_be_added_to(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = modules()
    monkeypatch.setenv(OPTION, "default,lightgbm")
    assert modules() == (*usual, "lightgbm")


def test_a_module_that_can_not_be_imported_is_told_and_left_out(
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
    assert last.startswith("preloaded 1 modules and what they import, in ")
    assert "imported_after_all" in sys.modules


@pytest.mark.parametrize("name", FIRST_USES)
def test_what_is_slow_at_its_first_use_is_used(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[str] = []
    monkeypatch.setattr(f"{name}.{FIRST_USES[name]}", lambda: done.append(name))
    assert name in modules()
    monkeypatch.setenv(OPTION, name)
    with caplog.at_level(logging.WARNING, "ml_pipelines_airflow.execution.preload"):
        preload()
        assert done == [name]
        assert caplog.messages == []
        monkeypatch.setattr(f"{name}.{FIRST_USES[name]}", lambda: 1 / 0)
        preload()
    assert caplog.messages == [f"{name} can't be preloaded: ZeroDivisionError: division by zero"]


@pytest.mark.parametrize(("preloaded", "forks"), [("ml_pipelines.modeling.skops_io", True), ("json", False)])
def test_a_task_is_forked_to_try_a_model_if_what_that_needs_is_here(
    preloaded: str, forks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "ml_pipelines.modeling.skops_io", raising=False)
    monkeypatch.setenv(OPTION, preloaded)
    preload()
    assert process.current.forks is forks


def test_the_executor_preloads_before_it_starts_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(executors, "preload", lambda: done.append("preload"))
    monkeypatch.setattr("airflow.executors.local_executor.LocalExecutor.start", lambda self: done.append("start"))
    WarmLocalExecutor(parallelism=1).start()
    assert done == ["preload", "start"]
    assert WarmLocalExecutor.is_local
