"""Look up the built-in steps, and the steps that installed packages add.

An installed package can add a step to a task of the training pipeline. Its entry point is in the group
`ml_pipelines.steps`::

    [project.entry-points."ml_pipelines.steps"]
    explain = "my_package.steps:EXPLAIN"

The entry point loads a :class:`~ml_pipelines.pipeline.step.Step` with the same name as the entry point. The step's
field `task` is the id of a task. The step runs after the built-in steps of this task. Added steps of the same task run
in the order of their names.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import fields
from itertools import takewhile

from ml_pipelines._utils.entry_points import load_entry_points
from ml_pipelines.errors import ExtensionError, RequestError
from ml_pipelines.pipeline.batch import BATCH_STEPS
from ml_pipelines.pipeline.step import Step
from ml_pipelines.pipeline.training import TRAINING_STEPS
from ml_pipelines.spec.task_steps import STEP_GROUP, TRAINING_TASKS

__all__ = ["extension_steps", "find_step", "require_last_step", "steps_of", "training_steps"]

# The steps of this task run once per candidate. An added step runs once per run, so it can't belong to this task.
_MAPPED_TASK = "train_model"
# The first task that changes the registry. The ledger must have an entry of its effects.
_FIRST_EFFECT = "register_and_deploy"


def find_step(name: str) -> Step:
    """Return the step with a name, from any pipeline.

    Raises:
        RequestError: no step has this name.
        ExtensionError: an installed step is not valid.
    """
    if built_in := (TRAINING_STEPS | BATCH_STEPS).get(name):
        return built_in
    steps = TRAINING_STEPS | BATCH_STEPS | extension_steps()
    if name in steps:
        return steps[name]
    raise _unknown_step(name, steps)


def require_last_step(name: str) -> None:
    """Check that a partial run can end after a step. It ends before a step registers or records anything.

    Raises:
        RequestError: no training step has this name, or the step registers, deploys or records.
        ExtensionError: an installed step is not valid.
    """
    names = [step for task in takewhile(lambda task: task != _FIRST_EFFECT, TRAINING_TASKS) for step in steps_of(task)]
    if name in names:
        return
    if name not in training_steps():
        raise _unknown_step(name, names)
    raise RequestError(
        f"a run can't end after the step {name!r}",
        expected=f"one of {', '.join(names)}",
        got=name,
        fix="run the pipeline without --until; a model that is registered or deployed needs an entry in the ledger",
    )


def _unknown_step(name: str, names: Collection[str]) -> RequestError:
    near = difflib.get_close_matches(name, names, 1)
    return RequestError(
        f"there is no step {name!r}",
        expected=f"one of {', '.join(names)}",
        got=name,
        fix=f"did you mean {near[0]!r}?"
        if near
        else "name one of these steps, or install the package that adds the step",
    )


def steps_of(task: str) -> tuple[str, ...]:
    """Return the names of the steps that a task of the training runs, in order.

    Raises:
        KeyError: the training has no such task.
        ExtensionError: an installed step is not valid.
    """
    return (*TRAINING_TASKS[task], *(step.name for step in extension_steps().values() if step.task == task))


def training_steps() -> dict[str, Step]:
    """Return all training steps by name: first the built-in steps, then the steps of installed packages."""
    return TRAINING_STEPS | extension_steps()


def extension_steps() -> dict[str, Step]:
    """Return the steps that installed packages add, by name.

    Raises:
        ExtensionError: an entry point does not load a valid step.
    """
    steps = load_entry_points(STEP_GROUP)
    for name, step in steps.items():
        if problem := _problem(name, step):
            raise ExtensionError(
                f"the step {name!r} of an installed package is not valid: {problem}",
                where=f"entry-point group {STEP_GROUP}",
                expected="an ml_pipelines.Step with the name of the entry point, and with the id of a task as `task`",
                got=repr(step),
                fix="correct the step, or uninstall the package",
            )
    return steps


def _problem(name: str, step: object) -> str | None:
    if not isinstance(step, Step):
        return "it is no Step"
    if step.name != name or name in TRAINING_STEPS | BATCH_STEPS:
        return "its name differs from the name of the entry point, or a built-in step has the same name"
    if step.task not in TRAINING_TASKS or step.task == _MAPPED_TASK:
        return f"its task is not one of {', '.join(task for task in TRAINING_TASKS if task != _MAPPED_TASK)}"
    return _wiring_problem(step)


def _wiring_problem(step: Step) -> str | None:
    """Return why an input of a step is not available when the step runs. Return None if all inputs are available."""
    earlier = [name for task in list(TRAINING_TASKS)[: _position(step.task) + 1] for name in TRAINING_TASKS[task]]
    for source in (*step.inputs.values(), *step.context.values()):
        producer, _, output = source.partition(".")
        if producer not in earlier or output not in TRAINING_STEPS[producer].outputs:
            return f"{source!r} is not an output of a step that runs earlier"
    late = [field.name for field in fields(step.reads) if field.name not in earlier] if step.reads else []
    return f"it reads facts of {late[0]!r}, which is not a step that runs earlier" if late else None


def _position(task: str) -> int:
    return list(TRAINING_TASKS).index(task)
