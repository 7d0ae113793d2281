"""Run one step: the only place where a step, the store and the outside world meet.

The same function runs in an Airflow task, in a container, on the command line and in a test. It decides from digests
whether there is anything to do before it imports anything heavy.
"""

from __future__ import annotations

import difflib
import fnmatch
import logging
import time
from contextlib import AbstractContextManager, ExitStack, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from ml_pipelines.batch_catalog import BATCHES
from ml_pipelines.catalog import CATALOG, Step
from ml_pipelines.contracts import ArtifactKind, ArtifactRef, StepRequest, StepResult, faults
from ml_pipelines.errors import RequestError
from ml_pipelines.extras import load
from ml_pipelines.parameters import Parameters
from ml_pipelines.phases import Publication, Resolution, StepOutput
from ml_pipelines.ports import Services
from ml_pipelines.recipe import recipe_key
from ml_pipelines.store import ArtifactStore

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
        resolution = load(step.resolve)(parameters, request.inputs, services, request.identity)
        request = request.model_copy(update={"inputs": {**request.inputs, **resolution.inputs}})
    key, components = recipe_key(
        step,
        parameters=parameters.model_dump(mode="json", exclude=set(parameters.not_in_key)),
        inputs=request.inputs,
        key_facts=resolution.key_facts,
        seed=request.seed,
    )
    store = ArtifactStore(request.store)
    if step.compute is None:
        result = StepResult(step=step.name, key=key, how="acted", reason="acts on the outside world, so it always runs")
    else:
        result = _find_or_compute(
            step, request, parameters, resolution, key, components, store, services.cells_per_group
        )
    result = _publish(step, request, parameters, resolution, result, services)
    result = result.model_copy(update={"seconds": round(time.monotonic() - started, 3)})
    store.record(request.identity, result)
    log.info("%s %s: %s (%.2f s)", step.name, key[:12], result.reason, result.seconds)
    return result


def _step(name: str) -> Step:
    known = CATALOG | BATCHES
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
    kind = load(step.parameters)
    try:
        return cast("Parameters", kind.model_validate(request.parameters))
    except ValidationError as exc:
        raise RequestError(
            f"step {step.name} does not take these parameters",
            where=f"step {step.name}",
            expected=f"the fields of {kind.__name__}: {', '.join(kind.model_fields)}",
            got=faults(exc),
            fix="make the request from the declaration again, with the version that runs it",
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
        result = StepResult(step=step.name, key=key, how="computed", reason=reason, outputs=outputs, values=values)
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
        arguments: dict[str, Any] = {name: _read(value, store, directory) for name, value in request.inputs.items()}
        if resolution.prepare is not None:
            arguments |= resolution.prepare(directory)
        stack.enter_context(_in_pieces(step, arguments, cells_per_group))
        output: StepOutput = load(step.compute)(parameters=parameters, seed=request.seed, **arguments)
        kinds = _kinds(step, output)
        made = {name: (kind, output.outputs[name]) for name, kind in kinds.items() if kind != "table"}
        refs = {name: store.put_bytes(_bytes(kind, value), kind=kind) for name, (kind, value) in made.items()}
        tables = {name: output.outputs[name] for name, kind in kinds.items() if kind == "table"}
        together = {name: table for name, table in tables.items() if name in step.outputs}
        # Parts of one table are written one after the other: all at once they would be the whole table in memory.
        alone = ({name: table} for name, table in tables.items() if name not in step.outputs)
        for group in (together, *alone):
            refs |= _save_tables(group, store, directory, arguments, _rows(request), cells_per_group)
    return {name: refs[name] for name in kinds}, output.values


def _kinds(step: Step, output: StepOutput) -> dict[str, ArtifactKind]:
    """The kind of each output, by name; a name of the catalog that ends in `*` stands for as many as were made."""
    kinds: dict[str, ArtifactKind] = {}
    for name, kind in step.outputs.items():
        names = fnmatch.filter(output.outputs, name) if name.endswith("*") else [name]
        kinds |= dict.fromkeys(names, kind)
    return kinds


def _read(value: ArtifactRef | tuple[ArtifactRef, ...], store: ArtifactStore, directory: str) -> Any:
    if isinstance(value, tuple):
        return [_read(each, store, directory) for each in value]
    if value.kind == "table":
        import polars

        return polars.scan_parquet(store.local_path(value, directory))
    if value.kind == "json":
        from ml_pipelines.codecs import load_json

        return load_json(store.read(value))
    if value.kind == "model":
        from ml_pipelines.codecs import load_model

        # Loaded when asked for: the evaluation holds one model at a time, and survives one that can't be loaded.
        return lambda: load_model(store.read(value))
    return store.read(value)


def _bytes(kind: ArtifactKind, value: Any) -> bytes:
    from ml_pipelines.codecs import dump_json, dump_model

    if kind == "json":
        return dump_json(value)
    if kind == "model":
        return dump_model(value)
    return value.encode() if isinstance(value, str) else bytes(value)


def _in_pieces(step: Step, arguments: dict[str, Any], cells_per_group: int) -> AbstractContextManager[None]:
    """Bound what streams over tables, if the step has to do with any."""
    if "polars" not in step.packages:
        return nullcontext()
    from polars import LazyFrame

    from ml_pipelines.tables import in_pieces

    widths = [len(value.collect_schema()) for value in arguments.values() if isinstance(value, LazyFrame)]
    return in_pieces(cells_per_group, max(widths, default=1))


def _save_tables(
    tables: dict[str, Any],
    store: ArtifactStore,
    directory: str,
    arguments: dict[str, Any],
    total: int | None,
    cells_per_group: int,
) -> dict[str, ArtifactRef]:
    """Stream all tables of a step to Parquet in one pass over what they share."""
    if not tables:
        return {}
    import polars

    from ml_pipelines.progress import progress
    from ml_pipelines.tables import counted, source_error

    paths = {name: str(Path(directory, f"{name}.parquet")) for name in tables}
    try:
        tell = progress(f"writing {', '.join(tables)}", "rows", total)
        sinks = [_sink(counted(table, tell), paths[name], cells_per_group) for name, table in tables.items()]
        polars.collect_all(sinks, engine="streaming")
    except polars.exceptions.PolarsError as exc:
        if (raw_path := arguments.get("raw_path")) is None:
            raise
        raise source_error(exc, raw_path) from exc
    return {
        name: store.put_file(path, kind="table", rows=polars.scan_parquet(path).select(polars.len()).collect().item())
        for name, path in paths.items()
    }


def _rows(request: StepRequest) -> int | None:
    """Of the largest table that goes in, which is the most that the tables that come out have together."""
    return max((ref.rows or 0 for ref in request.inputs.values() if isinstance(ref, ArtifactRef)), default=None)


def _sink(table: Any, path: str, cells_per_group: int) -> Any:
    rows = max(cells_per_group // max(len(table.collect_schema()), 1), 1)
    # Not zstd, which takes a fifth less space and, of all steps up to the split, a tenth more time.
    return table.sink_parquet(path, row_group_size=rows, compression="lz4", lazy=True)


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
    if result.how == "reused" and (told := store.published(step.name, result.key, services.place)) is not None:
        return result.model_copy(update={"values": values | told})
    work = Publication(
        parameters=parameters,
        references={**request.inputs, **request.context, **result.outputs},
        values=values,
        facts=request.facts,
        identity=request.identity,
        key=result.key,
    )
    publish = load(step.publish)
    if result.how == "acted":
        # Runs that may change which version of a model serves take turns: what one has checked stays true meanwhile.
        with services.ledger.turn(str(getattr(parameters, "model", step.name))):
            told = publish(work, services)
    else:
        told = publish(work, services)
        store.remember_published(step.name, result.key, services.place, told)
    return result.model_copy(update={"values": values | told})
