"""Read the pinned rows and give every column its type. Nothing is dropped but what the declaration ignores."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from ml_pipelines.data.csv_checks import source_error
from ml_pipelines.data.streaming import BAD_CELLS, REASON, ROW, missing_column_error
from ml_pipelines.data.type_inference import parse_columns, scan_source
from ml_pipelines.errors import DataError
from ml_pipelines.pipeline.parameters import IngestParameters
from ml_pipelines.pipeline.step import StepOutput

__all__ = ["ingest"]

_RESERVED = (BAD_CELLS, ROW, REASON)


def ingest(*, raw_path: str, parameters: IngestParameters, seed: int) -> StepOutput:
    """Read a CSV or Parquet file into typed columns, in the order of the source.

    Args:
        raw_path: local file, `.csv` or `.parquet`.
        parameters: the declared types; the other columns get the narrowest type that fits all their cells.
        seed: not used.

    Returns:
        `table`: the rows, with a column `_bad_cells` if some cell is not what is declared.
        Values: `columns`, without `_bad_cells`, and `empty_rows`, the records without any value.

    Raises:
        DataError: a declared column, the key or the target is not there, there are no rows, or a name is reserved.
        SourceUnreadable: the file is not a table.
    """
    try:
        frame = scan_source(raw_path)
        _check_names(frame.collect_schema().names(), parameters)
        table, empty_rows = parse_columns(frame.drop(parameters.ignore, strict=False), parameters.types, raw_path)
    except pl.exceptions.PolarsError as exc:
        raise source_error(exc, raw_path) from exc
    columns = sum(name != BAD_CELLS for name in table.collect_schema())
    return StepOutput(outputs={"table": table}, values={"columns": columns, "empty_rows": empty_rows})


def _check_names(names: list[str], parameters: IngestParameters) -> None:
    if reserved := [name for name in _RESERVED if name in names]:
        raise DataError(
            f"a column is called {reserved[0]!r}",
            expected=f"names other than {', '.join(_RESERVED)}",
            fix="rename the column in the data",
        )
    kept = [name for name in names if name not in parameters.ignore]
    roles: dict[str, Iterable[str | None]] = {
        "target": [parameters.target],
        "key": [parameters.key],
        "declared column": parameters.types,
    }
    for role, wanted in roles.items():
        for name in wanted:
            if name is not None and name not in kept:
                raise missing_column_error(name, role, kept)
