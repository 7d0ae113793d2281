"""Read the inputs of a step from the store and write its outputs."""

from __future__ import annotations

import fnmatch
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from ml_pipelines.contracts import ArtifactKind, ArtifactRef, StepRequest
from ml_pipelines.pipeline.step import Step, StepOutput
from ml_pipelines.store.artifact_store import ArtifactStore

__all__ = ["bound_streaming", "encode_artifact", "input_rows", "output_kinds", "read_input", "save_tables"]


def output_kinds(step: Step, output: StepOutput) -> dict[str, ArtifactKind]:
    """The kind of each output, by name; a name of the catalog that ends in `*` stands for as many as were made."""
    kinds: dict[str, ArtifactKind] = {}
    for name, kind in step.outputs.items():
        names = fnmatch.filter(output.outputs, name) if name.endswith("*") else [name]
        kinds |= dict.fromkeys(names, kind)
    return kinds


def read_input(value: ArtifactRef | tuple[ArtifactRef, ...], store: ArtifactStore, directory: str) -> Any:
    """Read an input of a step: a lazy table, a JSON document, a function that loads a model, or bytes."""
    if isinstance(value, tuple):
        return [read_input(each, store, directory) for each in value]
    if value.kind == "table":
        import polars

        return polars.scan_parquet(store.local_path(value, directory))
    if value.kind == "json":
        from ml_pipelines._utils.canonical_json import load_json

        return load_json(store.read(value))
    if value.kind == "model":
        from ml_pipelines.modeling.serialization import load_model

        # Loaded when asked for: the evaluation holds one model at a time, and survives one that can't be loaded.
        return lambda: load_model(store.read(value))
    return store.read(value)


def encode_artifact(kind: ArtifactKind, value: Any) -> bytes:
    """The bytes of an output that is not a table."""
    from ml_pipelines._utils.canonical_json import dump_json
    from ml_pipelines.modeling.serialization import dump_model

    if kind == "json":
        return dump_json(value)
    if kind == "model":
        return dump_model(value)
    return value.encode() if isinstance(value, str) else bytes(value)


def bound_streaming(step: Step, arguments: dict[str, Any], cells_per_group: int) -> AbstractContextManager[None]:
    """Bound what streams over tables, if the step has to do with any."""
    if "polars" not in step.packages:
        return nullcontext()
    from polars import LazyFrame

    from ml_pipelines.data.streaming import limit_chunk_size

    widths = [len(value.collect_schema()) for value in arguments.values() if isinstance(value, LazyFrame)]
    return limit_chunk_size(cells_per_group, max(widths, default=1))


def save_tables(
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

    from ml_pipelines._utils.progress import progress_logger
    from ml_pipelines.data.csv_checks import source_error
    from ml_pipelines.data.streaming import report_progress

    paths = {name: str(Path(directory, f"{name}.parquet")) for name in tables}
    try:
        tell = progress_logger(f"writing {', '.join(tables)}", "rows", total)
        sinks = [_sink(report_progress(table, tell), paths[name], cells_per_group) for name, table in tables.items()]
        polars.collect_all(sinks, engine="streaming")
    except polars.exceptions.PolarsError as exc:
        if (raw_path := arguments.get("raw_path")) is None:
            raise
        raise source_error(exc, raw_path) from exc
    return {
        name: store.put_file(path, kind="table", rows=polars.scan_parquet(path).select(polars.len()).collect().item())
        for name, path in paths.items()
    }


def input_rows(request: StepRequest) -> int | None:
    """Of the largest table that goes in, which is the most that the tables that come out have together."""
    return max((ref.rows or 0 for ref in request.inputs.values() if isinstance(ref, ArtifactRef)), default=None)


def _sink(table: Any, path: str, cells_per_group: int) -> Any:
    rows = max(cells_per_group // max(len(table.collect_schema()), 1), 1)
    # Not zstd, which takes a fifth less space and, of all steps up to the split, a tenth more time.
    return table.sink_parquet(path, row_group_size=rows, compression="lz4", lazy=True)
