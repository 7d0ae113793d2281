"""Divide a batch into shards, each with its own table, so that a task reads the rows of its shard only.

A key that occurs more than once shows only in the whole batch, so this step looks for such keys.
"""

from __future__ import annotations

from itertools import pairwise

import polars as pl

from ml_pipelines.contracts import JsonValue
from ml_pipelines.data.column_expressions import REASON, ROW, column
from ml_pipelines.data.duplicate_keys import find_duplicate_keys
from ml_pipelines.data.streaming import aggregate, count_rows
from ml_pipelines.errors import DataError
from ml_pipelines.pipeline.batch_parameters import PlanShardsParameters
from ml_pipelines.pipeline.step import StepOutput
from ml_pipelines.spec.batch import MAX_SHARDS, Shards

__all__ = ["plan_shards", "shard_ranges"]


def plan_shards(*, table: pl.LazyFrame, parameters: PlanShardsParameters, seed: int) -> StepOutput:
    """Divide the rows in their order.

    Args:
        table: the rows.
        parameters: the key; the size of the shards, or their number.
        seed: not used.

    Returns:
        `shard_0` and so on. A row whose key occurs in an earlier row has a `_reason`, so score_shard sends it to
        quarantine. Values: `rows`, `shards` (the rows of each), and `warnings` (sentences). No rows give no shards.

    Raises:
        DataError: there would be more shards than Airflow can map to tasks.
    """
    rows, warnings = _infinite_warnings(table)
    ranges = shard_ranges(rows, parameters.shards)
    if len(ranges) > MAX_SHARDS:
        raise DataError(
            f"{rows} rows would be {len(ranges)} shards",
            where="shards.rows",
            expected=f"at most {MAX_SHARDS} shards",
            got=f"shards of {parameters.shards.rows} rows",
            fix=f"set shards.rows to {-(-rows // MAX_SHARDS)} or more",
        )
    duplicates = [later[ROW] for later in find_duplicate_keys(table.with_row_index(ROW), parameters.key, rows)]
    if count := sum(map(len, duplicates)):
        reason = f"{parameters.key} occurred before"
        warnings.append(f"{reason} in {count} of {rows} rows, which go to quarantine")
        table = _with_reason(table, pl.concat(duplicates), reason)
    outputs = {f"shard_{index}": table.slice(offset, length) for index, (offset, length) in enumerate(ranges)}
    lengths: list[JsonValue] = [length for _, length in ranges]
    return StepOutput(
        outputs=outputs,
        values={"rows": rows, "shards": lengths, "warnings": [*warnings]},
        rows={tuple(outputs): count_rows(table)}
        | {(name,): length for name, (_, length) in zip(outputs, ranges, strict=True)},
    )


def _infinite_warnings(table: pl.LazyFrame) -> tuple[int, list[str]]:
    """Return the number of rows, and a warning for each column with infinite numbers."""
    floats = [name for name, dtype in table.collect_schema().items() if dtype.is_float()]
    infinite = [column(name).is_infinite().sum().alias(str(position)) for position, name in enumerate(floats)]
    rows, *counts = aggregate(table.select(pl.len(), *infinite)).row(0)
    warnings = [
        f"{name} is infinite in {count} of {rows} rows: the model treats them as missing"
        for name, count in zip(floats, counts, strict=True)
        if count
    ]
    return rows, warnings


def _with_reason(table: pl.LazyFrame, rows: pl.Series, reason: str) -> pl.LazyFrame:
    """Add a column with the reason in some rows, null in the others."""
    text = pl.when(pl.col(ROW).is_in(rows.implode())).then(pl.lit(reason)).alias(REASON)
    return table.with_row_index(ROW).with_columns(text).drop(ROW)


def shard_ranges(rows: int, shards: Shards) -> list[tuple[int, int]]:
    """Return first row and number of rows of each shard. No shard is empty, and every row is in exactly one."""
    if shards.rows is not None:
        return [(first, min(shards.rows, rows - first)) for first in range(0, rows, shards.rows)]
    assert shards.count is not None
    count = min(shards.count, rows)
    edges = [index * rows // count for index in range(count + 1)] if count else []
    return [(first, last - first) for first, last in pairwise(edges)]
