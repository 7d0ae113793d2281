"""Deal the rows out to train, validation and test, the same way every time.

Each row has a place, which is a hash of its key, or of its contents where there is no key: the lowest places are the
test, the next ones the validation. So a row stays where it is however the table grows or is ordered, and equal rows are
never on two sides. The hash is made of integer arithmetic alone, so that no library's version can move a row.
"""

from __future__ import annotations

from math import floor

import polars as pl

from ml_pipelines.data.row_hash import row_hash
from ml_pipelines.data.streaming import aggregate, missing_column_error
from ml_pipelines.errors import DataError
from ml_pipelines.pipeline.parameters import SplitParameters
from ml_pipelines.pipeline.step import StepOutput

__all__ = ["split"]

PARTS = ("train", "validation", "test")
# Names that no column of the data has: a header can't hold NUL.
_PART, _PLACE, _GROUP, _DIGIT, _RANK = "\0part", "\0place", "\0group", "\0digit", "\0rank"
_TEST, _HELD = "\0test", "\0held"
_DIGITS = 1 << 16
# A share of rows that is a whole number must not be rounded down because of its binary fraction.
_ROUNDING = 1e-9


def split(*, table: pl.LazyFrame, parameters: SplitParameters, seed: int) -> StepOutput:
    """Deal out the rows of a table.

    Args:
        table: the rows to use, each with a target.
        parameters: the method, the shares, and the columns that it goes by.
        seed: another seed, another hash.

    Returns:
        `train`, `validation`, `test`: each row in exactly one, in their order. Values: `rows` of each.

    Raises:
        DataError: a part is empty, train lacks a class, or the time column is missing or has gaps.
    """
    if aggregate(table.head(1)).is_empty():
        raise DataError("there are no rows to split", where="split", fix="deliver the rows")
    rule, place = parameters.split, row_hash(table, parameters.key, seed)
    if rule.method == "time":
        assert rule.column is not None
        part = _by_time(table, rule.column, rule.test, rule.validation)
        dealt = table.with_columns(part.alias(_PART))
    elif rule.method == "stratified":
        dealt = _stratified(table.with_columns(place.alias(_PLACE)), parameters.target, rule.test, rule.validation)
    else:
        cuts = [pl.lit(int(share * 2.0**64), dtype=pl.UInt64) for share in (rule.test, rule.test + rule.validation)]
        dealt = table.with_columns(_part(place, *cuts).alias(_PART))
    rows = _count(dealt, parameters)
    parts = {name: dealt.filter(pl.col(_PART) == name).drop(_PART) for name in PARTS}
    return StepOutput(outputs=dict(parts), values={"rows": dict(rows)})


def _part(place: pl.Expr, test: pl.Expr, held: pl.Expr) -> pl.Expr:
    """Places below `test` are the test, those from there to below `held` the validation."""
    return _first_of(place < test, place < held)


def _first_of(is_test: pl.Expr, is_held: pl.Expr) -> pl.Expr:
    return pl.when(is_test).then(pl.lit("test")).when(is_held).then(pl.lit("validation")).otherwise(pl.lit("train"))


def _stratified(placed: pl.LazyFrame, target: str, test: float, validation: float) -> pl.LazyFrame:
    """The same shares of each class, rounded down to rows, so that train has at least one row of each."""
    digit = pl.col(_PLACE) // (2**64 // _DIGITS)
    values = placed.select(pl.col(target).alias(_GROUP), _PLACE, digit.alias(_DIGIT))
    rows = aggregate(values.group_by(_GROUP).len())
    shares = {_TEST: test, _HELD: test + validation}
    ranks = pl.concat(
        rows.select(
            _GROUP, pl.lit(name).alias(_PART), (pl.col("len") * share + _ROUNDING).floor().cast(pl.Int64).alias(_RANK)
        )
        for name, share in shares.items()
    )
    cuts = _at_ranks(values, ranks).pivot(_PART, index=_GROUP, values=_PLACE)
    # Not a join, which would hold much of the table to keep the rows in order.
    limits = [pl.col(target).replace_strict(cuts[_GROUP], cuts[name], return_dtype=pl.UInt64) for name in shares]
    return placed.with_columns(_part(pl.col(_PLACE), *limits).alias(_PART)).drop(_PLACE)


def _by_time(table: pl.LazyFrame, column: str, test: float, validation: float) -> pl.Expr:
    """The latest rows are the test, those before them the validation. All rows of one time are on one side."""
    time = _time(table, column)
    low, high, rows = aggregate(table.select(time.min().alias("low"), time.max().alias("high"), pl.len())).row(0)
    digit = ((time - low).cast(pl.Float64) / max(high - low, 1) * (_DIGITS - 1)).cast(pl.Int64)
    values = table.select(pl.lit(0).alias(_GROUP), time.alias(_PLACE), digit.alias(_DIGIT))
    starts, before = [], rows
    for share in (test, validation):
        rank = max(before - max(floor(share * rows + _ROUNDING), 1), 0)
        starts.append(_at_ranks(values, pl.DataFrame({_GROUP: [0], _RANK: [rank]}))[0, _PLACE])
        before = aggregate(values.filter(pl.col(_PLACE) < starts[-1]).select(pl.len())).item()
    return _first_of(*(time >= start for start in starts))


def _time(table: pl.LazyFrame, column: str) -> pl.Expr:
    schema = table.collect_schema()
    if column not in schema:
        raise missing_column_error(column, "split column", schema, where="split.column")
    if not (schema[column].is_temporal() or schema[column].is_integer()):
        raise DataError(
            f"the rows can't be ordered in time by {column!r}",
            where="split.column",
            expected="a date, datetime or integer column",
            got=str(schema[column]),
            fix=f"declare its type in data.columns.{column}, or name another column",
        )
    gaps = aggregate(table.select(pl.col(column).null_count())).item()
    if gaps:
        raise DataError(
            f"{gaps} rows have no {column}, so they have no place in time",
            where="split.column",
            fix=f"set them aside: declare {column} with max_missing: 0 and on_fail: quarantine",
        )
    return pl.col(column).to_physical().cast(pl.Int64)


def _at_ranks(values: pl.LazyFrame, ranks: pl.DataFrame) -> pl.DataFrame:
    """The place that has a rank, counted from 0 in ascending order, within its group.

    Two passes in constant memory: one finds the digit below which the rank is, one looks at the places of that digit.

    Args:
        values: group, place, and a digit that never falls as the place rises.
        ranks: group and rank, each below the number of rows of its group.

    Returns:
        `ranks` with the place of each.
    """
    digits = aggregate(values.group_by(_GROUP, _DIGIT).len())
    near = _descend(ranks, digits, [_GROUP], _DIGIT)
    wanted = values.join(near.lazy(), on=[_GROUP, _DIGIT], how="semi", nulls_equal=True)
    places = aggregate(wanted.group_by(_GROUP, _DIGIT, _PLACE).len())
    return _descend(near, places, [_GROUP, _DIGIT], _PLACE)


def _descend(ranks: pl.DataFrame, counts: pl.DataFrame, groups: list[str], level: str) -> pl.DataFrame:
    """For each rank the level that holds it, and the rank within that level."""
    below = (pl.col("len").cum_sum().over(groups) - pl.col("len")).cast(pl.Int64).alias("below")
    levels = counts.sort(level).with_columns(below, pl.col("len").cast(pl.Int64))
    within = pl.col(_RANK) - pl.col("below")
    found = ranks.join(levels, on=groups, nulls_equal=True).filter((within >= 0) & (within < pl.col("len")))
    return found.with_columns(within.alias(_RANK)).drop("below", "len")


def _count(dealt: pl.LazyFrame, parameters: SplitParameters) -> dict[str, int]:
    by_class = parameters.task == "classification"
    group = pl.col(parameters.target) if by_class else pl.lit(0)
    counts = aggregate(dealt.group_by(_PART, group.alias(_GROUP)).len())
    rows = {name: int(counts.filter(pl.col(_PART) == name)["len"].sum()) for name in PARTS}
    shown = ", ".join(f"{name} {count}" for name, count in rows.items())
    for name in (name for name, count in rows.items() if count == 0):
        raise DataError(
            f"{name} has no rows",
            where="split",
            expected="rows in train, validation and test",
            got=shown,
            fix="gather more rows, or change the shares in split"
            + (f"; {parameters.split.column} may have too few different values" if parameters.split.column else ""),
        )
    if by_class:
        _check_classes(counts.filter(pl.col(_GROUP).is_not_null()), parameters.target)
    return rows


def _check_classes(counts: pl.DataFrame, target: str) -> None:
    learned = counts.filter(pl.col(_PART) == "train")[_GROUP].to_list()
    if unlearned := sorted(str(level) for level in counts[_GROUP].unique() if level not in learned):
        raise DataError(
            f"train has no row of the class {unlearned[0]!r}",
            where="split",
            expected=f"rows of every class of {target} to learn from",
            got=f"in validation or test only: {', '.join(unlearned[:10])}",
            fix="gather more rows of it, or set split.method to stratified",
        )
