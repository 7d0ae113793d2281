"""The tasks of each pipeline with the steps that they run: the only list of task ids.

A task is what an orchestrator schedules, retries and places on a worker; a step is what is cached. `runtime:` in a
declaration refers to tasks. The step tables of :mod:`ml_pipelines.pipeline` and the DAG builders read these tables.

An installed package can add a step through the entry-point group `ml_pipelines.steps`. Its row names the task of the
training that runs it.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["DRIFT_TASKS", "SCORING_TASKS", "STEP_GROUP", "TRAINING_TASKS", "task_of"]

STEP_GROUP = "ml_pipelines.steps"
"""The entry-point group of steps. The entry's name is the step's; it loads an object with the attribute `task`."""

TRAINING_TASKS: dict[str, tuple[str, ...]] = {
    "ingest_data": ("ingest",),
    "check_quality": ("compare_with_champion", "check_quality"),
    "preprocess_data": ("preprocess", "split"),
    "train_model": ("train",),
    "evaluate_model": ("evaluate", "decide"),
    "register_and_deploy": ("register", "deploy"),
    "record_decision": ("record_decision",),
}
"""Task id -> steps of a training, in the order in which they run."""

SCORING_TASKS: dict[str, tuple[str, ...]] = {
    "ingest_batch": ("ingest_batch",),
    "plan_shards": ("plan_shards",),
    "score_shard": ("score_shard",),
    "collect_scores": ("collect_scores",),
}
"""Task id -> steps of batch scoring."""

DRIFT_TASKS: dict[str, tuple[str, ...]] = {"measure_drift": ("measure_drift",)}
"""Task id -> steps of drift monitoring."""


def task_of(step: str, tasks: Mapping[str, tuple[str, ...]] | None = None) -> str:
    """Return the id of the task that runs a step.

    Args:
        step: name of the step.
        tasks: the table to search; by default all built-in ones.

    Raises:
        KeyError: no task of the table runs the step.
    """
    table = TRAINING_TASKS | SCORING_TASKS | DRIFT_TASKS if tasks is None else tasks
    for task, steps in table.items():
        if step in steps:
            return task
    raise KeyError(step)
