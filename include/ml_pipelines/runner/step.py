"""Run one step: the only place where a step, the store and the outside world meet.

The same function runs in an Airflow task, in a container, on the command line and in a test. It decides from digests
whether there is anything to do before it imports anything heavy.
"""

from __future__ import annotations

import difflib
import logging
import time
from contextlib import ExitStack
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from ml_pipelines._utils.imports import import_object
from ml_pipelines.contracts import ArtifactRef, StepRequest, StepResult, describe_validation_error
from ml_pipelines.errors import RequestError
from ml_pipelines.pipeline.batch import BATCH_STEPS
from ml_pipelines.pipeline.cache_key import cache_key
from ml_pipelines.pipeline.facts import NoFacts
from ml_pipelines.pipeline.parameters import Parameters
from ml_pipelines.pipeline.step import Publication, Resolution, Step, StepOutput
from ml_pipelines.pipeline.training import TRAINING_STEPS
from ml_pipelines.ports import Services
from ml_pipelines.runner.artifact_io import (
    bound_streaming,
    encode_artifact,
    input_rows,
    output_kinds,
    read_input,
    save_tables,
)
from ml_pipelines.store.artifact_store import ArtifactStore

__all__ = ["run_step"]

log = logging.getLogger(__name__)


def run_step(request: StepRequest, services: Services) -> StepResult:
    """Run a step, or find its result.

    Args:
        request: what to do.
        services: what `resolve` and `publish` may use.

    Raises:
        PipelineError: with what is wrong and how to mend it. A TransientError is worth another try.
    """
    started = time.monotonic()
    step = _step(request.step)
    parameters = _parameters(step, request)
    _check_inputs(step, request)
    resolution = Resolution()
    if step.resolve is not None:
        resolution = import_object(step.resolve)(parameters, request.inputs, services, request.identity)
        request = request.model_copy(update={"inputs": {**request.inputs, **resolution.inputs}})
    key, components = cache_key(
        step,
        parameters=parameters.model_dump(mode="json", exclude=set(parameters.not_in_key)),
        inputs=request.inputs,
        key_facts=resolution.key_facts,
        seed=request.seed,
    )
    store = ArtifactStore(request.store)
    if step.compute is None:
        result = StepResult(
            step=step.name, key=key, status="published", reason="acts on the outside world, so it always runs"
        )
    else:
        result = _find_or_compute(
            step, request, parameters, resolution, key, components, store, services.cells_per_group
        )
    result = _publish(step, request, parameters, resolution, result, services)
    _check_values(step, result)
    result = result.model_copy(update={"seconds": round(time.monotonic() - started, 3)})
    store.record(request.identity, result)
    log.info("%s %s: %s (%.2f s)", step.name, key[:12], result.reason, result.seconds)
    return result


def _step(name: str) -> Step:
    known = TRAINING_STEPS | BATCH_STEPS
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, 1)
    raise RequestError(
        f"there is no step {name!r}",
        expected=f"one of {', '.join(known)}",
        got=name,
        fix=f"did you mean {near[0]!r}?" if near else "name a step of the catalog",
    )


def _parameters(step: Step, request: StepRequest) -> Parameters:
    kind = import_object(step.parameters)
    try:
        return cast("Parameters", kind.model_validate(request.parameters))
    except ValidationError as exc:
        raise RequestError(
            f"step {step.name} does not take these parameters",
            where=f"step {step.name}",
            expected=f"the fields of {kind.__name__}: {', '.join(kind.model_fields)}",
            got=describe_validation_error(exc),
            fix="make the request from the declaration again, with the version that runs it",
        ) from exc


def _facts(step: Step, request: StepRequest) -> Any:
    """Return the facts of earlier steps that `publish` reads, validated once."""
    contract = step.reads or NoFacts
    try:
        return TypeAdapter(contract).validate_python(request.facts)
    except ValidationError as exc:
        raise RequestError(
            f"the facts for step {step.name} do not have the expected form",
            where=f"step {step.name}",
            expected=f"the facts of the steps {', '.join(field.name for field in fields(contract)) or 'none'}",
            got=describe_validation_error(exc),
            fix="run the earlier steps again with the same version of the package",
        ) from exc


def _check_values(step: Step, result: StepResult) -> None:
    """Raise RequestError unless the values are the facts that the step declares."""
    if step.facts is None:
        return
    try:
        step.facts.of(result)
    except ValidationError as exc:
        raise RequestError(
            f"the values of step {step.name} are not the facts that it declares",
            where=f"step {step.name}",
            expected=f"the fields of {step.facts.__name__}: {', '.join(step.facts.model_fields)}",
            got=describe_validation_error(exc),
            fix=f"correct the step, or its class {step.facts.__name__}",
        ) from exc


def _check_inputs(step: Step, request: StepRequest) -> None:
    if missing := [name for name in step.inputs if name not in request.inputs]:
        raise RequestError(
            f"step {step.name} has no input {missing[0]!r}",
            where=f"step {step.name}",
            expected=", ".join(f"{name} (of {source})" for name, source in step.inputs.items()),
            got=", ".join(request.inputs) or "no inputs",
            fix="name the artifacts of the earlier steps in the request",
        )


def _find_or_compute(
    step: Step,
    request: StepRequest,
    parameters: Parameters,
    resolution: Resolution,
    key: str,
    components: dict[str, Any],
    store: ArtifactStore,
    cells_per_group: int,
) -> StepResult:
    may_hit = resolution.cacheable and not request.force
    if may_hit and (hit := _hit(store, step.name, key, request.max_age_seconds)):
        return hit
    with store.lease(step.name, key):
        # Whoever held the lease before has probably done the work.
        if may_hit and (hit := _hit(store, step.name, key, request.max_age_seconds)):
            return hit
        reason = _why_not(store, step, components, request, resolution)
        log.info("%s %s: %s", step.name, key[:12], reason)
        outputs, values = _compute(step, request, parameters, resolution, store, cells_per_group)
        result = StepResult(step=step.name, key=key, status="computed", reason=reason, outputs=outputs, values=values)
        store.commit(step.name, key, result, components)
    return result


def _hit(store: ArtifactStore, step: str, key: str, max_age_seconds: float | None) -> StepResult | None:
    manifest = store.lookup(step, key)
    if manifest is None:
        return None
    age_seconds = (datetime.now(UTC) - manifest.created_at).total_seconds()
    if max_age_seconds is not None and age_seconds > max_age_seconds:
        return None
    reason = f"hit: made {manifest.created_at:%Y-%m-%d %H:%M} UTC from the same inputs, parameters and code"
    return manifest.result.model_copy(update={"reason": reason})


def _why_not(
    store: ArtifactStore, step: Step, components: dict[str, Any], request: StepRequest, resolution: Resolution
) -> str:
    if request.force:
        return "miss: forced"
    if not resolution.cacheable:
        return "miss: only reading tells whether the source has changed"
    return store.explain(step.name, components)


def _compute(
    step: Step,
    request: StepRequest,
    parameters: Parameters,
    resolution: Resolution,
    store: ArtifactStore,
    cells_per_group: int,
) -> tuple[dict[str, ArtifactRef], dict[str, Any]]:
    assert step.compute is not None
    with ExitStack() as stack:
        directory = stack.enter_context(store.scratch())
        arguments: dict[str, Any] = {
            name: read_input(value, store, directory) for name, value in request.inputs.items()
        }
        if resolution.prepare is not None:
            arguments |= resolution.prepare(directory)
        stack.enter_context(bound_streaming(step, arguments, cells_per_group))
        output: StepOutput = import_object(step.compute)(parameters=parameters, seed=request.seed, **arguments)
        kinds = output_kinds(step, output)
        made = {name: (kind, output.outputs[name]) for name, kind in kinds.items() if kind != "table"}
        refs = {name: store.put_bytes(encode_artifact(kind, value), kind=kind) for name, (kind, value) in made.items()}
        tables = {name: output.outputs[name] for name, kind in kinds.items() if kind == "table"}
        together = {name: table for name, table in tables.items() if name in step.outputs}
        # Parts of one table are written one after the other: all at once they would be the whole table in memory.
        alone = ({name: table} for name, table in tables.items() if name not in step.outputs)
        for group in (together, *alone):
            refs |= save_tables(group, store, directory, arguments, input_rows(request), cells_per_group)
    return {name: refs[name] for name in kinds}, output.values


def _publish(
    step: Step,
    request: StepRequest,
    parameters: Parameters,
    resolution: Resolution,
    result: StepResult,
    services: Services,
) -> StepResult:
    values = {**result.values, **resolution.values}
    if step.publish is None:
        return result.model_copy(update={"values": values})
    store = ArtifactStore(request.store)
    if (
        result.status == "cached"
        and (told := store.load_publication(step.name, result.key, services.server_id)) is not None
    ):
        return result.model_copy(update={"values": values | told})
    work: Publication[Parameters, Any] = Publication(
        parameters=parameters,
        references={**request.inputs, **request.context, **result.outputs},
        values=values,
        facts=_facts(step, request),
        identity=request.identity,
        key=result.key,
    )
    publish = import_object(step.publish)
    if result.status == "published":
        # Runs that may change which version of a model serves take turns: what one has checked stays true meanwhile.
        with services.ledger.lock(str(getattr(parameters, "model", step.name))):
            told = publish(work, services)
    else:
        told = publish(work, services)
        store.save_publication(step.name, result.key, services.server_id, told)
    return result.model_copy(update={"values": values | told})
