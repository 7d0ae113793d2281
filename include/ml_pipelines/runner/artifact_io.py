"""Read the inputs of a step from the store and write its outputs."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_pipelines._utils.error_kinds import kind_of_error
from ml_pipelines.contracts import ArtifactKind, ArtifactRef, StepRequest
from ml_pipelines.errors import PipelineError
from ml_pipelines.pipeline.step import Step, StepOutput
from ml_pipelines.store.artifact_store import ArtifactStore
from ml_pipelines.store.filesystems.base import unavailable

if TYPE_CHECKING:
    from ml_pipelines.data.source_table import SourceTable

__all__ = [
    "bound_streaming",
    "check_rows",
    "disk_errors",
    "encode_artifact",
    "input_rows",
    "output_kinds",
    "read_input",
    "save_tables",
]


@contextmanager
def disk_errors(directory: str) -> Iterator[None]:
    """Convert errors of the disk with the temporary files of a step, of any library."""
    try:
        yield
    except PipelineError:
        raise
    except Exception as exc:  # polars has its own exceptions for errors of the operating system
        if type(exc).__module__.partition(".")[0] in ("builtins", "polars", "pyarrow") and kind_of_error(exc):
            raise unavailable(exc, f"a temporary file in {directory}") from exc
        raise


def output_kinds(step: Step, output: StepOutput) -> dict[str, ArtifactKind]:
    """Return the kind of each output by name. A name in the row that ends in `*` matches any number of outputs.

    The output `failure` of a step belongs to a result that failed, and is not among them.
    """
    kinds: dict[str, ArtifactKind] = {}
    for name, kind in step.outputs.items():
        if step.failure and name == "failure":
            continue
        names = fnmatch.filter(output.outputs, name) if name.endswith("*") else [name]
        kinds |= dict.fromkeys(names, kind)
    return kinds


def read_input(value: ArtifactRef | tuple[ArtifactRef, ...], store: ArtifactStore, directory: str) -> Any:
    """Read an input of a step: a LazyFrame, a JSON document, a function that loads a model, or bytes."""
    if isinstance(value, tuple):
        return [read_input(ref, store, directory) for ref in value]
    if value.kind == "table":
        return _scan_table(value, store.local_path(value, directory))
    if value.kind == "json":
        from ml_pipelines._utils.canonical_json import load_json

        return load_json(store.read(value))
    if value.kind == "model":
        from ml_pipelines.modeling.serialization import load_model

        # Deferred: the evaluation holds one model at a time, and continues if one can't be loaded.
        return lambda: load_model(store.read(value))
    return store.read(value)


def _scan_table(ref: ArtifactRef, path: str) -> Any:
    import polars

    from ml_pipelines.data.column_expressions import check_row_count
    from ml_pipelines.data.streaming import count_rows

    table = polars.scan_parquet(path, glob=False)
    if ref.rows is not None:
        check_row_count(count_rows(table), ref.rows, where=ref.uri)
    return table


def check_rows(output: StepOutput, refs: Mapping[str, ArtifactRef]) -> None:
    """Check that the written tables have the rows that the step computed.

    Raises:
        DataError: rows were lost or added.
    """
    from ml_pipelines.data.column_expressions import check_row_count

    for names, expected in output.rows.items():
        check_row_count(sum(refs[name].rows or 0 for name in names), expected, where=", ".join(names))


def encode_artifact(kind: ArtifactKind, value: Any) -> bytes:
    """Return the bytes of an output that is not a table."""
    from ml_pipelines._utils.canonical_json import dump_json
    from ml_pipelines.modeling.serialization import dump_model

    if kind == "json":
        return dump_json(value)
    if kind == "model":
        return dump_model(value)
    return value.encode() if isinstance(value, str) else bytes(value)


def bound_streaming(arguments: dict[str, Any], cells_per_group: int) -> AbstractContextManager[None]:
    """Limit the chunk size of streaming by the widest table among the arguments of a step."""
    from polars import LazyFrame

    from ml_pipelines.data.streaming import limit_chunk_size

    widths = [len(value.collect_schema()) for value in arguments.values() if isinstance(value, LazyFrame)]
    return limit_chunk_size(cells_per_group, max(widths, default=1))


def save_tables(
    tables: dict[str, Any],
    store: ArtifactStore,
    directory: str,
    *,
    source: SourceTable | None,
    max_rows: int | None,
    cells_per_group: int,
) -> dict[str, ArtifactRef]:
    """Stream tables to Parquet in one pass over the sources that they share, and store the files.

    Args:
        tables: LazyFrames by name.
        store: the artifact store.
        directory: local directory for the files before they are stored.
        source: file that the tables are read from; None if they are read from artifacts.
        max_rows: upper bound of the number of rows, for progress messages.
        cells_per_group: size of a row group, in cells.

    Raises:
        SourceUnreadable: the source can't be read.
    """
    if not tables:
        return {}
    from ml_pipelines._utils.progress import progress_logger
    from ml_pipelines.data.source_table import source_errors
    from ml_pipelines.data.table_writer import write_tables

    paths = {name: str(Path(directory, f"{name}.parquet")) for name in tables}
    log = progress_logger(f"writing {', '.join(tables)}", "rows", max_rows)
    with source_errors(source) if source else nullcontext():
        rows = write_tables(tables, paths, cells_per_group=cells_per_group, log=log)
    return {name: store.put_file(path, kind="table", rows=rows[name]) for name, path in paths.items()}


def input_rows(request: StepRequest) -> int | None:
    """Return the number of rows of the largest input table, an upper bound of the rows of all outputs together."""
    return max((ref.rows or 0 for ref in request.inputs.values() if isinstance(ref, ArtifactRef)), default=None)
