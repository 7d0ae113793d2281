"""Cut a batch into shards, each a table of its own: whoever scores one reads that one alone."""

from __future__ import annotations

from itertools import pairwise

import polars as pl

from ml_pipelines.batch_parameters import PlanShardsParameters
from ml_pipelines.batch_spec import MOST_SHARDS, Shards
from ml_pipelines.errors import DataError
from ml_pipelines.phases import StepOutput

__all__ = ["plan_shards", "shards_of"]


def plan_shards(*, table: pl.LazyFrame, parameters: PlanShardsParameters, seed: int) -> StepOutput:
    """Cut the rows in their order.

    Args:
        table: the rows.
        parameters: how large shards are, or how many.
        seed: not used.

    Returns:
        `shard_0` and so on. Values: `rows` of all, and `shards`, the rows of each. No rows, no shards.

    Raises:
        DataError: there would be more shards than tasks can be mapped.
    """
    rows = int(table.select(pl.len()).collect().item())
    planned = shards_of(rows, parameters.shards)
    if len(planned) > MOST_SHARDS:
        least = -(-rows // MOST_SHARDS)
        raise DataError(
            f"{rows} rows would be {len(planned)} shards",
            where="shards.rows",
            expected=f"at most {MOST_SHARDS} shards",
            got=f"shards of {parameters.shards.rows} rows",
            fix=f"set shards.rows to {least} or more",
        )
    outputs = {f"shard_{index}": table.slice(offset, length) for index, (offset, length) in enumerate(planned)}
    return StepOutput(outputs=outputs, values={"rows": rows, "shards": [length for _, length in planned]})


def shards_of(rows: int, shards: Shards) -> list[tuple[int, int]]:
    """First row and number of rows of each shard; none is empty, and together they are all rows, each once."""
    if shards.rows is not None:
        return [(first, min(shards.rows, rows - first)) for first in range(0, rows, shards.rows)]
    assert shards.count is not None
    count = min(shards.count, rows)
    edges = [index * rows // count for index in range(count + 1)] if count else []
    return [(first, last - first) for first, last in pairwise(edges)]
