"""Wire the results of earlier steps into the request of the next step, by the step table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ml_pipelines.contracts import StepResult
from ml_pipelines.errors import RequestError
from ml_pipelines.pipeline.step import References, Step
from ml_pipelines.pipeline.step_table import find_step, training_steps

__all__ = ["Results", "upstream_steps", "wire_inputs"]

Results = Mapping[str, "StepResult | list[StepResult] | None"]


def upstream_steps(step: str) -> tuple[str, ...]:
    """Return the names of the steps whose results a training step reads, in the order of the step table."""
    row = find_step(step)
    sources = {source.partition(".")[0] for source in (*row.inputs.values(), *row.context.values())}
    return tuple(name for name in training_steps() if name in sources or name in _read_steps(row))


def wire_inputs(step: Step, results: Results) -> dict[str, Any]:
    """Return the `inputs`, `context` and `facts` of a :class:`StepRequest`.

    A result of a mapped step has either the outputs of a success or the output `failure`. It is part of the lists that
    it has the output for. The facts of a failure are left out.

    Args:
        step: row of the step.
        results: by step name, a list for a mapped step; None or absent for a step that did not run. Such a step is
            left out of `context` and `facts`.

    Raises:
        RequestError: a step that produces an input did not run.
    """
    return {
        "inputs": _references(step, step.inputs, results, required=True),
        "context": _references(step, step.context, results, required=False),
        "facts": {name: _values(result) for name in _read_steps(step) if (result := results.get(name)) is not None},
    }


def _references(step: Step, sources: Mapping[str, str], results: Results, *, required: bool) -> References:
    references: References = {}
    for argument, source in sources.items():
        producer, _, output = source.partition(".")
        result = results.get(producer)
        if result is None:
            if required:
                raise RequestError(
                    f"step {step.name} has no input {argument!r}",
                    where=f"step {step.name}",
                    expected=f"the result of step {producer}",
                    got="none",
                    fix=f"run step {producer} first",
                )
            continue
        references[argument] = (
            tuple(one.outputs[output] for one in result if output in one.outputs)
            if isinstance(result, list)
            else result.outputs[output]
        )
    return references


def _read_steps(step: Step) -> tuple[str, ...]:
    """Return the names of the steps whose facts `publish` reads."""
    return tuple(field.name for field in fields(step.reads)) if step.reads else ()


def _values(result: StepResult | list[StepResult]) -> Any:
    if not isinstance(result, list):
        return result.values
    return [one.values for one in result if one.status != "failed"]
