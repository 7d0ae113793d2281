"""Read the pinned rows as typed columns, without the columns in `data.ignore` and without empty records."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ml_pipelines.contracts import JsonValue
from ml_pipelines.data.canonical_keys import with_canonical_key
from ml_pipelines.data.column_expressions import BAD_CELLS, check_reserved_names, missing_column_error
from ml_pipelines.data.column_types import type_name
from ml_pipelines.data.source_table import SourceTable, source_errors
from ml_pipelines.data.type_inference import parse_columns
from ml_pipelines.pipeline.step import StepOutput
from ml_pipelines.pipeline.step_parameters import IngestParameters

__all__ = ["ingest"]

_UNNAMED_INDEX = re.compile(r"__index_level_\d+__")


def ingest(*, source: SourceTable, parameters: IngestParameters, seed: int) -> StepOutput:
    """Read a CSV or Parquet file into typed columns, in the order of the source.

    Args:
        source: the checked file.
        parameters: the declared types; the other columns get the narrowest type that fits all their cells.
        seed: not used.

    Returns:
        `table`: the rows, with a column `_bad_cells` if some cells are not of the declared type. `columns`: `types`
        of the columns in the delivery, and `left_out`, the unnamed indexes of pandas.
        Values: `columns`, without `_bad_cells`, and `empty_rows`, the number of records without any value.

    Raises:
        DataError: a declared column, the key or the target is missing, there are no rows, or a name is reserved.
        SourceUnreadable: the file is not a table.
    """
    _check_names(source, parameters)
    left_out = [name for name in source.columns if _is_unnamed_index(name, parameters)]
    names = [name for name in source.columns if name not in (*parameters.ignore, *left_out)]
    with source_errors(source):
        table, rows, empty_rows = parse_columns(
            source, names, parameters.types, parameters.key, formats=parameters.formats
        )
        schema = table.collect_schema()
        table = with_canonical_key(table, parameters.key) if parameters.key is not None else table
    types: dict[str, JsonValue] = {name: type_name(dtype) for name, dtype in schema.items() if name != BAD_CELLS}
    return StepOutput(
        outputs={"table": table, "columns": {"types": types, "left_out": [*left_out]}},
        values={"columns": len(types), "empty_rows": empty_rows},
        rows={("table",): rows},
    )


def _is_unnamed_index(name: str, parameters: IngestParameters) -> bool:
    """Return whether pandas wrote a column for the index of a frame: it numbers the rows before a sort or a filter."""
    return _UNNAMED_INDEX.fullmatch(name) is not None and name not in (
        parameters.key,
        parameters.target,
        *parameters.types,
        *parameters.ignore,
    )


def _check_names(source: SourceTable, parameters: IngestParameters) -> None:
    check_reserved_names(source.columns)
    if absent := [name for name in parameters.ignore if name not in source.columns]:
        raise missing_column_error(absent[0], "column in data.ignore", source.columns, where=source.location)
    kept = [name for name in source.columns if name not in parameters.ignore]
    roles: dict[str, Iterable[str | None]] = {
        "target": [parameters.target],
        "key": [parameters.key],
        "declared column": parameters.types,
        **{f"column of {field}": names for field, names in parameters.used_by.items()},
    }
    for role, role_names in roles.items():
        for name in role_names:
            if name is not None and name not in kept:
                raise missing_column_error(name, role, kept, where=source.location)
