from __future__ import annotations

from collections.abc import Callable

import pytest

from ml_pipelines.errors import ExtensionError, RequestError
from ml_pipelines.pipeline.batch import BATCH_STEPS
from ml_pipelines.pipeline.step_table import extension_steps, find_step, require_last_step, steps_of, training_steps
from ml_pipelines.pipeline.training import TRAINING_STEPS
from ml_pipelines.pipeline.wiring import upstream_steps
from ml_pipelines.spec.task_steps import TRAINING_TASKS

Install = Callable[..., None]
CODE = """
from ml_pipelines import Step
explain = Step(name="{name}", task="{task}", parameters="acme_table:P", compute="acme_table:f", {wiring})
"""


def install_step(install: Install, *, name: str = "explain", task: str = "evaluate_model", wiring: str = "") -> None:
    install("acme_table", CODE.format(name=name, task=task, wiring=wiring), steps={"explain": "acme_table:explain"})


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(__import__("sys").modules, "acme_table", raising=False)


def test_find_step_returns_the_built_in_rows() -> None:
    for name, step in (TRAINING_STEPS | BATCH_STEPS).items():
        assert find_step(name) is step


def test_find_step_proposes_a_similar_name() -> None:
    with pytest.raises(RequestError) as error:
        find_step("trian")
    assert error.value.fix == "did you mean 'train'?"


def test_steps_of_returns_the_built_in_steps_of_each_task() -> None:
    assert {task: steps_of(task) for task in TRAINING_TASKS} == TRAINING_TASKS
    with pytest.raises(KeyError):
        steps_of("no_such_task")


def test_an_installed_step_runs_after_the_built_in_steps_of_its_task(install: Install) -> None:
    install_step(install, wiring='inputs={"evaluation": "evaluate.evaluation"}, context={"test": "split.test"}')
    assert steps_of("evaluate_model") == ("evaluate", "decide", "explain")
    assert list(training_steps()) == [*TRAINING_STEPS, "explain"]
    assert find_step("explain") is extension_steps()["explain"]
    assert upstream_steps("explain") == ("split", "evaluate")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"name": "other"}, "its name"),
        ({"task": "no_such_task"}, "its task"),
        ({"task": "train_model"}, "its task"),
        ({"wiring": 'inputs={"a": "record_decision.x"}'}, "'record_decision.x' is not an output"),
        ({"wiring": 'inputs={"a": "evaluate.no_such_output"}'}, "'evaluate.no_such_output' is not an output"),
        ({"task": "ingest_data", "wiring": 'context={"a": "split.test"}'}, "'split.test' is not an output"),
    ],
)
def test_an_installed_step_that_is_not_valid_is_an_extension_error(
    install: Install, fields: dict[str, str], problem: str
) -> None:
    install_step(install, **fields)
    with pytest.raises(ExtensionError, match=problem):
        steps_of("ingest_data")


def test_an_entry_point_that_is_no_step_is_an_extension_error(install: Install) -> None:
    install("acme_table", "explain = 1", steps={"explain": "acme_table:explain"})
    with pytest.raises(ExtensionError, match="it is no Step"):
        extension_steps()


def test_a_partial_run_ends_before_the_first_effect(install: Install) -> None:
    install_step(install)
    for name in ("ingest", "train", "decide", "explain"):
        require_last_step(name)
    for name in ("register", "deploy", "record_decision"):
        with pytest.raises(RequestError, match=f"a run can't end after the step '{name}'"):
            require_last_step(name)
    with pytest.raises(RequestError, match="there is no step 'evalute'") as error:
        require_last_step("evalute")
    assert error.value.fix == "did you mean 'evaluate'?"
