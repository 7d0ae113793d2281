"""Separate the rows to use from those that go to quarantine. It works row by row and fits nothing.

Models get their rows before the transform of the declaration, so that an earlier model can be evaluated with its own.
"""

from __future__ import annotations

from functools import partial

import polars as pl

from ml_pipelines.data.column_expressions import BAD_CELLS, REASON, ROW, column, missing_cell
from ml_pipelines.data.streaming import aggregate, count_rows
from ml_pipelines.errors import DataError
from ml_pipelines.pipeline.step import StepOutput
from ml_pipelines.pipeline.step_parameters import PreprocessParameters

__all__ = ["preprocess"]

_NO_TARGET = "target is missing"


def preprocess(
    *, table: pl.LazyFrame, flagged: pl.LazyFrame, parameters: PreprocessParameters, seed: int
) -> StepOutput:
    """Separate the rows. Every row is in exactly one of the two outputs.

    Args:
        table: the rows, as ingest returns them.
        flagged: `row` and `reason` of the rows that check_quality sends to quarantine, one line a row.
        parameters: the target; a row without it goes to quarantine as well. The transform is checked on the rows to
            use.
        seed: not used.

    Returns:
        `clean`: the rows to use, in their order, without `_bad_cells`; NaN is null. `quarantine`: the other rows,
        unchanged, with their position `_row` and `_reason`. Values: `rows_in`, `kept`, `quarantined`,
        `quarantined_by_reason`.

    Raises:
        DataError: no row is left.
        UserCodeError: the transform fails, or does not work row by row.
    """
    schema = table.collect_schema()
    unlabelled = missing_cell(parameters.target, schema[parameters.target])
    reasons = [pl.col(REASON), pl.when(unlabelled).then(pl.lit(_NO_TARGET))]
    reason = pl.concat_str(*reasons, separator="; ", ignore_nulls=True)
    judged = (
        table.with_row_index(ROW)
        .with_columns(_flagged_reason(flagged))
        .with_columns(pl.when(reason != "").then(reason).alias(REASON))
    )
    counts = dict(aggregate(judged.group_by(REASON).len().sort("len", REASON, descending=[True, False])).rows())
    kept = counts.pop(None, 0)
    if kept == 0:
        raise _no_rows(counts)
    floats = [column(name).fill_nan(None) for name, dtype in schema.items() if dtype.is_float()]
    clean = judged.filter(pl.col(REASON).is_null()).drop(ROW, REASON, BAD_CELLS, strict=False).with_columns(floats)
    if parameters.transform is not None:
        # Imported here, because scikit-learn takes a second to import.
        from ml_pipelines.modeling.user_transform import check_transform, input_columns

        roles = (parameters.key, parameters.group, parameters.target)
        check_transform(clean, parameters.transform, input_columns(clean, roles))
    quarantined = sum(counts.values())
    return StepOutput(
        outputs={"clean": clean, "quarantine": judged.filter(pl.col(REASON).is_not_null())},
        values={
            "rows_in": kept + quarantined,
            "kept": kept,
            "quarantined": quarantined,
            "quarantined_by_reason": counts,
        },
        rows={("clean",): kept, ("quarantine",): quarantined, ("clean", "quarantine"): count_rows(table)},
    )


def _no_rows(counts: dict[str, int]) -> DataError:
    return DataError(
        "no row is left to train on",
        expected="at least one row with a target that is not in quarantine",
        got="; ".join(f"{count} rows: {reason}" for reason, count in list(counts.items())[:5]) or "no rows",
        fix="correct the data, or the rules that send the rows to quarantine",
    )


def _flagged_reason(flagged: pl.LazyFrame) -> pl.Expr:
    """Return the reason of each flagged row, null for the others. A join would hold much of the table in memory."""
    reasons = flagged.sort("row").collect()
    look_up = partial(_look_up, reasons["row"], reasons["reason"])
    return pl.col(ROW).map_batches(look_up, return_dtype=pl.String, is_elementwise=True).alias(REASON)


def _look_up(flagged: pl.Series, reasons: pl.Series, rows: pl.Series) -> pl.Series:
    """Return the reason of each of the rows; `flagged` is sorted, with the reason at the same position."""
    if flagged.is_empty():
        return pl.Series(rows.name, [None], dtype=pl.String).new_from_index(0, len(rows))
    candidates = flagged.search_sorted(rows).clip(upper_bound=len(flagged) - 1)
    positions = pl.select(pl.when(flagged.gather(candidates) == rows).then(candidates)).to_series()
    return reasons.gather(positions).alias(rows.name)
