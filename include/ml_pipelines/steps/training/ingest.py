"""Read the pinned rows as typed columns, without the columns in `data.ignore` and without empty records."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from ml_pipelines.data.columns import BAD_CELLS, check_reserved_names, drop_columns, missing_column_error
from ml_pipelines.data.csv_checks import source_error
from ml_pipelines.data.type_inference import parse_columns, scan_source
from ml_pipelines.pipeline.parameters import IngestParameters
from ml_pipelines.pipeline.step import StepOutput

__all__ = ["ingest"]


def ingest(*, raw_path: str, parameters: IngestParameters, seed: int) -> StepOutput:
    """Read a CSV or Parquet file into typed columns, in the order of the source.

    Args:
        raw_path: local file, `.csv` or `.parquet`.
        parameters: the declared types; the other columns get the narrowest type that fits all their cells.
        seed: not used.

    Returns:
        `table`: the rows, with a column `_bad_cells` if some cells are not of the declared type.
        Values: `columns`, without `_bad_cells`, and `empty_rows`, the number of records without any value.

    Raises:
        DataError: a declared column, the key or the target is missing, there are no rows, or a name is reserved.
        SourceUnreadable: the file is not a table.
    """
    try:
        frame = scan_source(raw_path)
        _check_names(frame.collect_schema().names(), parameters)
        table, empty_rows = parse_columns(drop_columns(frame, parameters.ignore), parameters.types, raw_path)
    except pl.exceptions.PolarsError as exc:
        raise source_error(exc, raw_path) from exc
    columns = sum(name != BAD_CELLS for name in table.collect_schema())
    return StepOutput(outputs={"table": table}, values={"columns": columns, "empty_rows": empty_rows})


def _check_names(names: list[str], parameters: IngestParameters) -> None:
    check_reserved_names(names)
    kept = [name for name in names if name not in parameters.ignore]
    roles: dict[str, Iterable[str | None]] = {
        "target": [parameters.target],
        "key": [parameters.key],
        "declared column": parameters.types,
    }
    for role, role_names in roles.items():
        for name in role_names:
            if name is not None and name not in kept:
                raise missing_column_error(name, role, kept)
