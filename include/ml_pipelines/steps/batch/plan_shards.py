"""Cut a batch into shards, each a table of its own: whoever scores one reads that one alone.

So what only the whole batch shows is looked for here: keys that occur more than once.
"""

from __future__ import annotations

from itertools import pairwise

import polars as pl

from ml_pipelines.contracts import JsonValue
from ml_pipelines.data.duplicate_keys import find_duplicate_keys
from ml_pipelines.data.streaming import BAD_CELLS, ROW, aggregate
from ml_pipelines.errors import DataError
from ml_pipelines.pipeline.batch_parameters import PlanShardsParameters
from ml_pipelines.pipeline.step import StepOutput
from ml_pipelines.spec.batch import MAX_SHARDS, Shards

__all__ = ["plan_shards", "shard_ranges"]


def plan_shards(*, table: pl.LazyFrame, parameters: PlanShardsParameters, seed: int) -> StepOutput:
    """Cut the rows in their order.

    Args:
        table: the rows.
        parameters: the key; how large shards are, or how many.
        seed: not used.

    Returns:
        `shard_0` and so on; a row whose key an earlier row has says so in the column `_bad_cells`, and will not be
        scored. Values: `rows` of all, `shards`, the rows of each, and `warnings`, sentences. No rows, no shards.

    Raises:
        DataError: there would be more shards than tasks can be mapped.
    """
    floats = [name for name, dtype in table.collect_schema().items() if dtype.is_float()]
    rows, *infinite = aggregate(table.select(pl.len(), pl.col(floats).is_infinite().sum())).row(0)
    planned = shard_ranges(rows, parameters.shards)
    if len(planned) > MAX_SHARDS:
        least = -(-rows // MAX_SHARDS)
        raise DataError(
            f"{rows} rows would be {len(planned)} shards",
            where="shards.rows",
            expected=f"at most {MAX_SHARDS} shards",
            got=f"shards of {parameters.shards.rows} rows",
            fix=f"set shards.rows to {least} or more",
        )
    warnings: list[JsonValue] = [
        f"{name} is infinite in {count} of {rows} rows: to the model that is the same as missing"
        for name, count in zip(floats, infinite, strict=True)
        if count
    ]
    again = [each[ROW] for each in find_duplicate_keys(table.with_row_index(ROW), parameters.key, rows)]
    if count := sum(map(len, again)):
        warnings.append(f"{parameters.key} occurred before in {count} of {rows} rows, which are set aside")
        table = _set_aside(table, pl.concat(again), f"{parameters.key} occurred before")
    outputs = {f"shard_{index}": table.slice(offset, length) for index, (offset, length) in enumerate(planned)}
    lengths: list[JsonValue] = [length for _, length in planned]
    return StepOutput(outputs=outputs, values={"rows": rows, "shards": lengths, "warnings": warnings})


def _set_aside(table: pl.LazyFrame, rows: pl.Series, reason: str) -> pl.LazyFrame:
    told = [pl.col(BAD_CELLS)] if BAD_CELLS in table.collect_schema() else []
    why = pl.when(pl.col(ROW).is_in(rows.implode())).then(pl.lit(reason))
    complaints = pl.concat_str(*told, why, separator="; ", ignore_nulls=True)
    return table.with_row_index(ROW).with_columns(pl.when(complaints != "").then(complaints).alias(BAD_CELLS)).drop(ROW)


def shard_ranges(rows: int, shards: Shards) -> list[tuple[int, int]]:
    """First row and number of rows of each shard; none is empty, and together they are all rows, each once."""
    if shards.rows is not None:
        return [(first, min(shards.rows, rows - first)) for first in range(0, rows, shards.rows)]
    assert shards.count is not None
    count = min(shards.count, rows)
    edges = [index * rows // count for index in range(count + 1)] if count else []
    return [(first, last - first) for first, last in pairwise(edges)]
