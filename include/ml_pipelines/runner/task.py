"""Run the steps of a task, in this process or through an orchestrator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ml_pipelines.contracts import Identity, JsonValue, StepRequest, StepResult
from ml_pipelines.pipeline.step_parameters import Parameters, RunOptions
from ml_pipelines.pipeline.step_table import find_step, steps_of
from ml_pipelines.pipeline.wiring import Results, wire_inputs

__all__ = ["CONTINUE", "build_request", "run_task"]

CONTINUE = frozenset({"go_on", "passed"})
"""Verdicts of a step after which its task continues with the next step. A step without a verdict continues too."""


def run_task(
    task: str, run_one: Callable[[str], StepResult], *, go_on: frozenset[str] = CONTINUE
) -> dict[str, StepResult]:
    """Run the steps of a task in order, until the verdict of a step ends the task.

    Args:
        task: id of a task of the training.
        run_one: runs the step of this name and returns its result.
        go_on: verdicts of a step after which the task continues.

    Returns:
        Results by step. A step after the verdict that ended the task has none.
    """
    results: dict[str, StepResult] = {}
    for step in steps_of(task):
        results[step] = run_one(step)
        if results[step].values.get("verdict", "passed") not in go_on:
            break
    return results


def build_request(
    step: str,
    parameters: Parameters,
    results: Results,
    *,
    seed: int,
    store: str,
    identity: Identity,
    options: RunOptions,
    facts: Mapping[str, JsonValue] | None = None,
) -> StepRequest:
    """Return the request for a step, with its inputs from the results of earlier steps.

    Args:
        step: name of the step.
        parameters: declared parameters of the step.
        results: results of earlier steps by name; those of a mapped step are a list.
        seed: seed of the pipeline.
        store: URI of the artifact store.
        identity: the run and the task that run the step.
        options: options of the run.
        facts: further facts that no step returns, such as an approval.

    Raises:
        RequestError: a step that produces an input did not run.
    """
    wired: dict[str, Any] = wire_inputs(find_step(step), results)
    wired["facts"] |= facts or {}
    return StepRequest(
        step=step,
        parameters=parameters.for_run(options).model_dump(mode="json"),
        **wired,
        seed=seed,
        store=store,
        identity=identity,
        force=options.force,
    )
