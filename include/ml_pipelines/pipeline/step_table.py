"""Look up steps: the built-in rows, and the rows that installed packages add.

An installed package adds a step to a task of the training by an entry point in the group `ml_pipelines.steps`::

    [project.entry-points."ml_pipelines.steps"]
    explain = "my_package.steps:EXPLAIN"

The entry loads a :class:`~ml_pipelines.pipeline.step.Step` of the same name whose `task` is the id of a task. The step
runs after the built-in steps of that task. Steps of one task run in the order of their names.
"""

from __future__ import annotations

import difflib
from dataclasses import fields

from ml_pipelines._utils.entry_points import load_entry_points
from ml_pipelines.errors import ExtensionError, RequestError
from ml_pipelines.pipeline.batch import BATCH_STEPS
from ml_pipelines.pipeline.step import Step
from ml_pipelines.pipeline.training import TRAINING_STEPS
from ml_pipelines.spec.tasks import STEP_GROUP, TRAINING_TASKS

__all__ = ["extension_steps", "find_step", "steps_of", "training_steps"]

# Its steps run once per candidate; an added step runs once per run.
_MAPPED_TASK = "train_model"


def find_step(name: str) -> Step:
    """Return the row of a step of any pipeline.

    Raises:
        RequestError: no table has a step of this name.
        ExtensionError: an installed step is not valid.
    """
    if built_in := (TRAINING_STEPS | BATCH_STEPS).get(name):
        return built_in
    steps = TRAINING_STEPS | BATCH_STEPS | extension_steps()
    if name in steps:
        return steps[name]
    near = difflib.get_close_matches(name, steps, 1)
    raise RequestError(
        f"there is no step {name!r}",
        expected=f"one of {', '.join(steps)}",
        got=name,
        fix=f"did you mean {near[0]!r}?" if near else "name a step of the step table, or install its package",
    )


def steps_of(task: str) -> tuple[str, ...]:
    """Return the names of the steps that a task of the training runs, in order.

    Raises:
        KeyError: the training has no such task.
        ExtensionError: an installed step is not valid.
    """
    return (*TRAINING_TASKS[task], *(step.name for step in extension_steps().values() if step.task == task))


def training_steps() -> dict[str, Step]:
    """Return the rows of all training steps by name: the built-in steps, then those of installed packages."""
    return TRAINING_STEPS | extension_steps()


def extension_steps() -> dict[str, Step]:
    """Return the rows of the steps that installed packages add, by name.

    Raises:
        ExtensionError: an entry point does not load a valid row.
    """
    steps = load_entry_points(STEP_GROUP)
    for name, step in steps.items():
        if problem := _problem(name, step):
            raise ExtensionError(
                f"the step {name!r} of an installed package is not valid: {problem}",
                where=f"entry-point group {STEP_GROUP}",
                expected="an ml_pipelines.Step with the name of the entry point and the id of a task",
                got=repr(step),
                fix="correct the step, or uninstall the package",
            )
    return steps


def _problem(name: str, step: object) -> str | None:
    if not isinstance(step, Step):
        return "it is no Step"
    if step.name != name or name in TRAINING_STEPS | BATCH_STEPS:
        return "its name is not the entry point's, or is that of a built-in step"
    if step.task not in TRAINING_TASKS or step.task == _MAPPED_TASK:
        return f"its task is not one of {', '.join(task for task in TRAINING_TASKS if task != _MAPPED_TASK)}"
    return _wiring_problem(step)


def _wiring_problem(step: Step) -> str | None:
    """Return why the inputs of a step can't be there when it runs; None if they can."""
    earlier = [name for task in list(TRAINING_TASKS)[: _position(step.task) + 1] for name in TRAINING_TASKS[task]]
    for source in (*step.inputs.values(), *step.context.values()):
        producer, _, output = source.partition(".")
        if producer not in earlier or output not in TRAINING_STEPS[producer].outputs:
            return f"{source!r} is not an output of a step that runs earlier"
    late = [field.name for field in fields(step.reads) if field.name not in earlier] if step.reads else []
    return f"it reads facts of {late[0]!r}, which is not a step that runs earlier" if late else None


def _position(task: str) -> int:
    return list(TRAINING_TASKS).index(task)
