"""Take out the rows that can't be used, and say why. Row by row: nothing is learned from the data here."""

from __future__ import annotations

from functools import partial

import polars as pl

from ml_pipelines.data.streaming import BAD_CELLS, REASON, ROW, aggregate, missing_expr
from ml_pipelines.errors import DataError
from ml_pipelines.pipeline.parameters import PreprocessParameters
from ml_pipelines.pipeline.step import StepOutput

__all__ = ["preprocess"]

_NO_TARGET = "target is missing"


def preprocess(
    *, table: pl.LazyFrame, flagged: pl.LazyFrame, parameters: PreprocessParameters, seed: int
) -> StepOutput:
    """Part the rows into those to use and those to set aside. Every row is in exactly one of the two.

    Args:
        table: the rows as ingest leaves them.
        flagged: `row` and `reason` of the rows that the quality gate sets aside, one line a row.
        parameters: names the target; a row without it is set aside as well.
        seed: not used.

    Returns:
        `clean`: the other rows in their order, without `_bad_cells`; what is not a number is null. `quarantine`: the
        rows set aside as they came, with their position `_row` and `_reason`. Values: `rows_in`, `kept`,
        `quarantined`, `quarantined_by_reason`.

    Raises:
        DataError: no row is left.
    """
    schema = table.collect_schema()
    unlabelled = missing_expr(parameters.target, schema[parameters.target])
    reasons = pl.concat_str(
        pl.col(REASON), pl.when(unlabelled).then(pl.lit(_NO_TARGET)), separator="; ", ignore_nulls=True
    )
    judged = (
        table.with_row_index(ROW)
        .with_columns(_reason_of_row(flagged))
        .with_columns(pl.when(reasons != "").then(reasons).alias(REASON))
    )
    counts = dict(aggregate(judged.group_by(REASON).len().sort("len", REASON, descending=[True, False])).rows())
    kept = counts.pop(None, 0)
    if kept == 0:
        raise DataError(
            "no row is left to train on",
            expected="at least one row with a target that no rule sets aside",
            got="; ".join(f"{count} rows: {reason}" for reason, count in list(counts.items())[:5]) or "no rows",
            fix="correct the data, or the rules that set the rows aside",
        )
    floats = [pl.col(name).fill_nan(None) for name, dtype in schema.items() if dtype.is_float()]
    clean = judged.filter(pl.col(REASON).is_null()).drop(ROW, REASON, BAD_CELLS, strict=False).with_columns(floats)
    quarantined = sum(counts.values())
    return StepOutput(
        outputs={"clean": clean, "quarantine": judged.filter(pl.col(REASON).is_not_null())},
        values={
            "rows_in": kept + quarantined,
            "kept": kept,
            "quarantined": quarantined,
            "quarantined_by_reason": counts,
        },
    )


def _reason_of_row(flagged: pl.LazyFrame) -> pl.Expr:
    """The reason why a row is set aside, null for the others: looked up, since a join would hold much of the table."""
    known = flagged.sort("row").collect()
    look_up = partial(_looked_up, known["row"], known["reason"])
    return pl.col(ROW).map_batches(look_up, return_dtype=pl.String, is_elementwise=True).alias(REASON)


def _looked_up(rows: pl.Series, reasons: pl.Series, wanted: pl.Series) -> pl.Series:
    """For each wanted row its reason; `rows` are sorted, each with the reason at its position."""
    if rows.is_empty():
        return pl.Series(wanted.name, [None], dtype=pl.String).new_from_index(0, len(wanted))
    at = rows.search_sorted(wanted).clip(upper_bound=len(rows) - 1)
    found = pl.select(pl.when(rows.gather(at) == wanted).then(at)).to_series()
    return reasons.gather(found).alias(wanted.name)
