"""Run one step: the only module where a step, the store and the services meet.

The same function runs in an Airflow task, in a container, on the command line and in a test. It decides from digests
whether there is anything to compute before it imports a heavy library.
"""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from dataclasses import dataclass, fields
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from ml_pipelines._utils.canonical_json import Components
from ml_pipelines._utils.imports import import_object
from ml_pipelines.contracts import ArtifactRef, JsonValue, StepRequest, StepResult, describe_validation_error
from ml_pipelines.errors import ModelError, RequestError
from ml_pipelines.pipeline.cache_key import cache_key
from ml_pipelines.pipeline.facts import NoFacts
from ml_pipelines.pipeline.step import Publication, Resolution, Step, StepOutput
from ml_pipelines.pipeline.step_parameters import Parameters
from ml_pipelines.pipeline.step_table import find_step
from ml_pipelines.ports import Services
from ml_pipelines.runner.artifact_io import (
    bound_streaming,
    check_rows,
    disk_errors,
    encode_artifact,
    input_rows,
    output_kinds,
    read_input,
    save_tables,
)
from ml_pipelines.store.artifact_store import ArtifactStore

__all__ = ["run_step", "validate_parameters"]

log = logging.getLogger(__name__)

_Values = dict[str, JsonValue]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """One call of a step, resolved and with its key."""

    step: Step
    request: StepRequest
    parameters: Parameters
    resolution: Resolution
    key: str
    components: Components
    store: ArtifactStore
    services: Services


def run_step(request: StepRequest, services: Services) -> StepResult:
    """Run a step, or return its result from the cache.

    Args:
        request: the step, its parameters and its inputs.
        services: the services that `resolve` and `publish` may use.

    Raises:
        PipelineError: with the cause and the fix. A TransientError is worth a retry.
    """
    started = time.monotonic()
    job = _resolve(request, services)
    if job.step.compute is None:
        reason = "has effects, so it always runs"
        result = StepResult(step=job.step.name, key=job.key, status="published", reason=reason)
    else:
        result = _find_or_compute(job)
    if result.status != "failed":
        result = _publish(job, result)
        _check_values(job.step, result)
    result = result.model_copy(update={"seconds": round(time.monotonic() - started, 3)})
    job.store.record(request.identity, result)
    log.info("%s %s: %s (%.2f s)", job.step.name, job.key[:12], result.reason, result.seconds)
    return result


def _resolve(request: StepRequest, services: Services) -> _Job:
    """Validate a request, call the step's `resolve` and derive the key."""
    step = find_step(request.step)
    parameters = validate_parameters(step, request)
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
        code=parameters.code,
    )
    return _Job(
        step=step,
        request=request,
        parameters=parameters,
        resolution=resolution,
        key=key,
        components=components,
        store=ArtifactStore(request.store, keys=services.manifest_keys),
        services=services,
    )


def validate_parameters(step: Step, request: StepRequest) -> Parameters:
    """Return the parameters of a request.

    Raises:
        RequestError: the step does not take these parameters.
    """
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


def _check_inputs(step: Step, request: StepRequest) -> None:
    """Raise RequestError if a request lacks an input of the step."""
    if missing := [name for name in step.inputs if name not in request.inputs]:
        raise RequestError(
            f"step {step.name} has no input {missing[0]!r}",
            where=f"step {step.name}",
            expected=", ".join(f"{name} (of {source})" for name, source in step.inputs.items()),
            got=", ".join(request.inputs) or "no inputs",
            fix="name the artifacts of the earlier steps in the request",
        )


def _facts(job: _Job) -> Any:
    """Return the facts of earlier steps that `publish` reads, validated once."""
    contract = job.step.reads or NoFacts
    try:
        return TypeAdapter(contract).validate_python(job.request.facts)
    except ValidationError as exc:
        raise RequestError(
            f"the facts for step {job.step.name} do not have the expected form",
            where=f"step {job.step.name}",
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


def _find_or_compute(job: _Job) -> StepResult:
    may_hit = job.resolution.cacheable and not job.request.force
    if may_hit and (hit := _hit(job)):
        return hit
    with job.store.lease(job.step.name, job.key):
        # The process that held the lease before has probably computed the result.
        if may_hit and (hit := _hit(job)):
            return hit
        reason = _miss_reason(job)
        log.info("%s %s: %s", job.step.name, job.key[:12], reason)
        result = _compute(job, reason)
        if result.status == "computed":
            job.store.commit(job.step.name, job.key, result, job.components)
    return result


def _hit(job: _Job) -> StepResult | None:
    manifest = job.store.lookup(job.step.name, job.key)
    if manifest is None:
        return None
    reason = f"hit: computed {manifest.created_at:%Y-%m-%d %H:%M} UTC from the same inputs, parameters and code"
    return manifest.result.model_copy(update={"reason": reason})


def _miss_reason(job: _Job) -> str:
    if job.request.force:
        return "miss: forced"
    if not job.resolution.cacheable:
        return "miss: the source has no version, so it is read again"
    return job.store.explain_miss(job.step.name, job.components, job.request.identity)


def _compute(job: _Job, reason: str) -> StepResult:
    """Compute the outputs and return the result. An error of the step's own candidate is a result too."""
    result = StepResult(step=job.step.name, key=job.key, status="computed", reason=reason)
    try:
        outputs, output = _compute_outputs(job)
    except ModelError as exc:
        if job.step.failure is None:
            raise
        return _failed(job, result, exc)
    changes = {"outputs": outputs, "values": output.values}
    if output.partial:
        changes |= {"status": "partial", "reason": f"{reason}; not stored, because a candidate failed"}
    return result.model_copy(update=changes)


def _failed(job: _Job, result: StepResult, error: ModelError) -> StepResult:
    log.warning("%s of run %s failed: %s", job.step.name, job.request.identity.run_id, error)
    output: StepOutput = import_object(str(job.step.failure))(job.parameters, error)
    outputs = {"failure": job.store.put_bytes(encode_artifact("json", output.outputs["failure"]), kind="json")}
    reason = f"failed: {error.summary}"
    return result.model_copy(update={"status": "failed", "reason": reason, "outputs": outputs, "values": output.values})


def _compute_outputs(job: _Job) -> tuple[dict[str, ArtifactRef], StepOutput]:
    """Read the inputs, call the step's function and store its outputs."""
    assert job.step.compute is not None
    with ExitStack() as stack:
        directory = stack.enter_context(job.store.scratch())
        stack.enter_context(disk_errors(directory))
        arguments = {name: read_input(value, job.store, directory) for name, value in job.request.inputs.items()}
        if job.resolution.prepare is not None:
            arguments |= job.resolution.prepare(directory)
        if _reads_tables(job):
            stack.enter_context(bound_streaming(arguments, job.services.cells_per_group))
        compute = import_object(job.step.compute)
        output: StepOutput = compute(parameters=job.parameters, seed=job.request.seed, **arguments)
        return _store_outputs(job, output, directory, arguments.get("source")), output


def _reads_tables(job: _Job) -> bool:
    """Return whether the step may stream over a table. Only such a step needs polars."""
    values = job.request.inputs.values()
    references = [ref for value in values for ref in (value if isinstance(value, tuple) else (value,))]
    kinds = {*job.step.outputs.values(), *(ref.kind for ref in references)}
    return "table" in kinds or job.resolution.prepare is not None


def _store_outputs(job: _Job, output: StepOutput, directory: str, source: Any) -> dict[str, ArtifactRef]:
    kinds = output_kinds(job.step, output)
    refs = {
        name: job.store.put_bytes(encode_artifact(kind, output.outputs[name]), kind=kind)
        for name, kind in kinds.items()
        if kind != "table"
    }
    tables = {name: output.outputs[name] for name, kind in kinds.items() if kind == "table"}
    shared = {name: table for name, table in tables.items() if name in job.step.outputs}
    # Shards are written one after the other: all at once they would be the whole table in memory.
    shards = ({name: table} for name, table in tables.items() if name not in job.step.outputs)
    for group in (shared, *shards):
        refs |= save_tables(
            group,
            job.store,
            directory,
            source=source,
            max_rows=input_rows(job.request),
            cells_per_group=job.services.cells_per_group,
        )
    if output.rows:
        check_rows(output, refs)
    return {name: refs[name] for name in kinds}


def _publish(job: _Job, result: StepResult) -> StepResult:
    """Call the step's `publish`, unless its result is cached and already published on the same server."""
    step, store, server = job.step, job.store, job.services.server_id
    values = {**result.values, **job.resolution.values}
    if step.publish is None:
        return result.model_copy(update={"values": values})
    published = store.load_publication(step.name, job.key, server) if result.status == "cached" else None
    if published is None:
        published = _call_publish(job, result, values)
        if result.status != "published":
            store.save_publication(step.name, job.key, server, published)
    return result.model_copy(update={"values": values | published})


def _call_publish(job: _Job, result: StepResult, values: _Values) -> _Values:
    work: Publication[Parameters, Any] = Publication(
        parameters=job.parameters,
        references={**job.request.inputs, **job.request.context, **result.outputs},
        values=values,
        facts=_facts(job),
        identity=job.request.identity,
        key=job.key,
    )
    publish = import_object(str(job.step.publish))
    if result.status != "published":
        return cast("_Values", publish(work, job.services))
    # Only one run at a time may change the aliases of a model, so that a checked state stays true until it is used.
    with job.services.ledger.lock(str(getattr(job.parameters, "model", job.step.name))):
        return cast("_Values", publish(work, job.services))
