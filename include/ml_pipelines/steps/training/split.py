"""Split the rows into train, validation and test, reproducibly.

Each row has a hash of its key, or of its cells if there is no key: the lowest hashes are the test part, the next ones
the validation part. So a row stays in its part when the table grows or its order changes, and equal rows are always in
the same part. No version of a library moves a row; see :mod:`ml_pipelines.data.row_hash`.
"""

from __future__ import annotations

from math import floor

import polars as pl

from ml_pipelines.data.columns import column, missing_column_error
from ml_pipelines.data.row_hash import row_hash
from ml_pipelines.data.streaming import aggregate
from ml_pipelines.errors import DataError
from ml_pipelines.pipeline.parameters import SplitParameters
from ml_pipelines.pipeline.step import StepOutput

__all__ = ["PARTS", "split"]

PARTS = ("train", "validation", "test")
# Names that no column of the data has: a header can't contain NUL.
_PART, _PLACE, _GROUP, _DIGIT, _RANK = "\0part", "\0place", "\0group", "\0digit", "\0rank"
_TEST, _HELD_OUT = "\0test", "\0held_out"
_DIGITS = 1 << 16
# A whole number of rows must not be rounded down because of the binary fraction of the share.
_ROUNDING = 1e-9


def split(*, table: pl.LazyFrame, parameters: SplitParameters, seed: int) -> StepOutput:
    """Split a table.

    Args:
        table: the rows to use, each with a target.
        parameters: the method, the shares, and the columns that decide.
        seed: of the hash; another seed gives another split.

    Returns:
        `train`, `validation`, `test`: each row in exactly one, in their order. Values: `rows` of each.

    Raises:
        DataError: a part is empty, train lacks a class, or the time column is missing or has missing cells.
    """
    if aggregate(table.head(1)).is_empty():
        raise DataError("there are no rows to split", where="split", fix="deliver the rows")
    rule, place = parameters.split, row_hash(table, parameters.key, seed)
    if rule.method == "time":
        assert rule.column is not None
        part = _part_by_time(table, rule.column, rule.test, rule.validation)
        assigned = table.with_columns(part.alias(_PART))
    elif rule.method == "stratified":
        assigned = _assign_stratified(
            table.with_columns(place.alias(_PLACE)), parameters.target, rule.test, rule.validation
        )
    else:
        cuts = [pl.lit(int(share * 2.0**64), dtype=pl.UInt64) for share in (rule.test, rule.test + rule.validation)]
        assigned = table.with_columns(_part(place, *cuts).alias(_PART))
    rows = _count(assigned, parameters)
    parts = {name: assigned.filter(pl.col(_PART) == name).drop(_PART) for name in PARTS}
    return StepOutput(outputs=dict(parts), values={"rows": dict(rows)})


def _part(place: pl.Expr, test: pl.Expr, held_out: pl.Expr) -> pl.Expr:
    """Return the part of a row: test for places below `test`, validation for those from there to below `held_out`."""
    return _first_match(place < test, place < held_out)


def _first_match(in_test: pl.Expr, held_out: pl.Expr) -> pl.Expr:
    return pl.when(in_test).then(pl.lit("test")).when(held_out).then(pl.lit("validation")).otherwise(pl.lit("train"))


def _assign_stratified(placed: pl.LazyFrame, target: str, test: float, validation: float) -> pl.LazyFrame:
    """Assign the same share of each class to each part, rounded down, so that train has a row of each class."""
    digit = pl.col(_PLACE) // (2**64 // _DIGITS)
    values = placed.select(column(target).alias(_GROUP), _PLACE, digit.alias(_DIGIT))
    rows = aggregate(values.group_by(_GROUP).len())
    shares = {_TEST: test, _HELD_OUT: test + validation}
    ranks = pl.concat(
        rows.select(
            _GROUP, pl.lit(name).alias(_PART), (pl.col("len") * share + _ROUNDING).floor().cast(pl.Int64).alias(_RANK)
        )
        for name, share in shares.items()
    )
    cuts = _at_ranks(values, ranks).pivot(_PART, index=_GROUP, values=_PLACE)
    # A join would hold much of the table in memory to keep the rows in order.
    limits = [column(target).replace_strict(cuts[_GROUP], cuts[name], return_dtype=pl.UInt64) for name in shares]
    return placed.with_columns(_part(pl.col(_PLACE), *limits).alias(_PART)).drop(_PLACE)


def _part_by_time(table: pl.LazyFrame, time_column: str, test: float, validation: float) -> pl.Expr:
    """Return the part of a row: the latest rows are the test. Rows of the same time are in the same part."""
    time = _time(table, time_column)
    low, high, rows = aggregate(table.select(time.min().alias("low"), time.max().alias("high"), pl.len())).row(0)
    digit = ((time - low).cast(pl.Float64) / max(high - low, 1) * (_DIGITS - 1)).cast(pl.Int64)
    values = table.select(pl.lit(0).alias(_GROUP), time.alias(_PLACE), digit.alias(_DIGIT))
    starts, before = [], rows
    for share in (test, validation):
        rank = max(before - max(floor(share * rows + _ROUNDING), 1), 0)
        starts.append(_at_ranks(values, pl.DataFrame({_GROUP: [0], _RANK: [rank]}))[0, _PLACE])
        before = aggregate(values.filter(pl.col(_PLACE) < starts[-1]).select(pl.len())).item()
    return _first_match(*(time >= start for start in starts))


def _time(table: pl.LazyFrame, name: str) -> pl.Expr:
    """Return the time column as integers, after a check of its type and its missing cells."""
    schema = table.collect_schema()
    if name not in schema:
        raise missing_column_error(name, "split column", schema, where="split.column")
    if not (schema[name].is_temporal() or schema[name].is_integer()):
        raise DataError(
            f"the column {name!r} can't order the rows in time",
            where="split.column",
            expected="a date, datetime or integer column",
            got=str(schema[name]),
            fix=f"declare its type in data.columns.{name}, or name another column",
        )
    missing = aggregate(table.select(column(name).null_count())).item()
    if missing:
        raise DataError(
            f"{missing} rows have no {name}, so a split by time can't place them",
            where="split.column",
            fix=f"send them to quarantine: declare {name} with max_missing: 0 and on_fail: quarantine",
        )
    return column(name).to_physical().cast(pl.Int64)


def _at_ranks(values: pl.LazyFrame, ranks: pl.DataFrame) -> pl.DataFrame:
    """Find the place at each rank within its group; ranks count from 0 in ascending order of the places.

    Two passes in constant memory: the first finds the digit that contains the rank, the second reads the places of
    that digit only.

    Args:
        values: group, place, and a digit that never decreases as the place increases.
        ranks: group and rank, each below the number of rows of its group.

    Returns:
        `ranks` with the place of each.
    """
    digits = aggregate(values.group_by(_GROUP, _DIGIT).len())
    narrowed = _descend(ranks, digits, [_GROUP], _DIGIT)
    candidates = values.join(narrowed.lazy(), on=[_GROUP, _DIGIT], how="semi", nulls_equal=True)
    places = aggregate(candidates.group_by(_GROUP, _DIGIT, _PLACE).len())
    return _descend(narrowed, places, [_GROUP, _DIGIT], _PLACE)


def _descend(ranks: pl.DataFrame, counts: pl.DataFrame, groups: list[str], level: str) -> pl.DataFrame:
    """Return for each rank the level that contains it, and the rank within that level."""
    below = (pl.col("len").cum_sum().over(groups) - pl.col("len")).cast(pl.Int64).alias("below")
    levels = counts.sort(level).with_columns(below, pl.col("len").cast(pl.Int64))
    within = pl.col(_RANK) - pl.col("below")
    matches = ranks.join(levels, on=groups, nulls_equal=True).filter((within >= 0) & (within < pl.col("len")))
    return matches.with_columns(within.alias(_RANK)).drop("below", "len")


def _count(assigned: pl.LazyFrame, parameters: SplitParameters) -> dict[str, int]:
    by_class = parameters.task == "classification"
    group = column(parameters.target) if by_class else pl.lit(0)
    counts = aggregate(assigned.group_by(_PART, group.alias(_GROUP)).len())
    rows = {name: int(counts.filter(pl.col(_PART) == name)["len"].sum()) for name in PARTS}
    shown = ", ".join(f"{name} {count}" for name, count in rows.items())
    for name in (name for name, count in rows.items() if count == 0):
        raise DataError(
            f"{name} has no rows",
            where="split",
            expected="rows in train, validation and test",
            got=shown,
            fix="collect more rows, or change the shares in split"
            + (f"; {parameters.split.column} may have too few distinct values" if parameters.split.column else ""),
        )
    if by_class:
        _check_classes(counts.filter(pl.col(_GROUP).is_not_null()), parameters.target)
    return rows


def _check_classes(counts: pl.DataFrame, target: str) -> None:
    trained = counts.filter(pl.col(_PART) == "train")[_GROUP].to_list()
    if untrained := sorted(str(level) for level in counts[_GROUP].unique() if level not in trained):
        raise DataError(
            f"train has no row of the class {untrained[0]!r}",
            where="split",
            expected=f"rows of every class of {target} in train",
            got=f"in validation or test only: {', '.join(untrained[:10])}",
            fix="collect more rows of it, or set split.method to stratified",
        )
