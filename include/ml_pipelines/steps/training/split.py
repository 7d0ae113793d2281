"""Split the rows into train, validation and test, reproducibly.

Each row has a hash of its key, or of its cells if there is no key: the lowest hashes are the test part, the next ones
the validation part. So a row stays in its part when the table grows or its order changes, and equal rows are always in
the same part. No version of a library moves a row; see :mod:`ml_pipelines.data.row_hash`.

With groups, the hash is that of the group. A split by time takes the latest row of a group as the time of all its rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import floor
from typing import Any

import polars as pl

from ml_pipelines.data.canonical_keys import canonical_key
from ml_pipelines.data.class_labels import count_labels, default_positive
from ml_pipelines.data.column_expressions import column, missing_column_error
from ml_pipelines.data.row_hash import row_hash
from ml_pipelines.data.split_record import SplitRecord
from ml_pipelines.data.split_rule import column_kind, time_value
from ml_pipelines.data.streaming import aggregate, count_rows
from ml_pipelines.errors import DataError
from ml_pipelines.pipeline.step import StepOutput
from ml_pipelines.pipeline.step_parameters import SplitParameters
from ml_pipelines.spec.training import Split

__all__ = ["PARTS", "split"]

PARTS = ("train", "validation", "test")

Limits = dict[str, tuple[int, int]]
# Names that no column of the data has: a header can't contain NUL.
_PART, _PLACE, _GROUP, _DIGIT, _RANK = "\0part", "\0place", "\0group", "\0digit", "\0rank"
_TEST, _HELD_OUT = "\0test", "\0held_out"
_DIGITS = 1 << 16
# A whole number of rows must not be rounded down because of the binary fraction of the share.
_ROUNDING = 1e-9


def split(
    *, table: pl.LazyFrame, parameters: SplitParameters, seed: int, columns: Mapping[str, Any] | None = None
) -> StepOutput:
    """Split a table.

    Args:
        table: the rows to use, each with a target.
        parameters: the method, the shares, and the columns that decide.
        seed: of the hash; another seed gives another split.
        columns: types of the columns in the delivery, which the record keeps for the key.

    Returns:
        `train`, `validation`, `test`: each row in exactly one, in their order. `rule`: a
        :class:`~ml_pipelines.data.split_record.SplitRecord`. Values: `rows` of each.

    Raises:
        DataError: a part is empty, train lacks a class, or the time or group column is missing or has missing cells.
    """
    if aggregate(table.head(1)).is_empty():
        raise DataError("there are no rows to split", where="split", fix="deliver the rows")
    rule = parameters.split
    if rule.group is not None:
        _require_groups(table, rule.group)
    place = row_hash(table, rule.group or parameters.key, seed)
    if rule.method == "time":
        part, limits = _part_by_time(table, rule, place if rule.group is not None else None)
        assigned = table.with_columns(part.alias(_PART))
    elif rule.method == "stratified":
        placed = table.with_columns(place.alias(_PLACE))
        assigned, limits = _assign_stratified(placed, parameters.target, rule.test, rule.validation)
    else:
        test, held_out = (int(share * 2.0**64) for share in (rule.test, rule.test + rule.validation))
        cuts = [pl.lit(cut, dtype=pl.UInt64) for cut in (test, held_out)]
        assigned, limits = table.with_columns(_part(place, *cuts).alias(_PART)), {"": (test, held_out)}
    rows = _count(assigned, parameters)
    parts = {name: assigned.filter(pl.col(_PART) == name).drop(_PART) for name in PARTS}
    expected: dict[tuple[str, ...], int] = {(name,): count for name, count in rows.items()}
    expected[PARTS] = count_rows(table)
    types = columns["types"] if columns else {}
    record = _record(table, parameters, seed, limits).model_copy(update={"key_type": types.get(parameters.key)})
    outputs = {**parts, "rule": record.model_dump(mode="json")}
    return StepOutput(outputs=outputs, values={"rows": dict(rows)}, rows=expected)


def _record(table: pl.LazyFrame, parameters: SplitParameters, seed: int, limits: Limits) -> SplitRecord:
    schema, target = table.collect_schema(), parameters.target
    counts = count_labels(table, target) if parameters.task == "classification" else None
    return SplitRecord(
        method=parameters.split.method,
        test=parameters.split.test,
        validation=parameters.split.validation,
        column=parameters.split.column,
        key=parameters.key,
        group=parameters.split.group,
        seed=seed,
        target=target,
        columns={name: column_kind(dtype) for name, dtype in schema.items()},
        limits=limits,
        positive=default_positive(counts) if counts else None,
    )


def _part(place: pl.Expr, test: pl.Expr, held_out: pl.Expr) -> pl.Expr:
    """Return the part of a row: test for places below `test`, validation for those from there to below `held_out`."""
    return _first_match(place < test, place < held_out)


def _first_match(in_test: pl.Expr, held_out: pl.Expr) -> pl.Expr:
    return pl.when(in_test).then(pl.lit("test")).when(held_out).then(pl.lit("validation")).otherwise(pl.lit("train"))


def _assign_stratified(
    placed: pl.LazyFrame, target: str, test: float, validation: float
) -> tuple[pl.LazyFrame, Limits]:
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
    bounds = [column(target).replace_strict(cuts[_GROUP], cuts[name], return_dtype=pl.UInt64) for name in shares]
    labels = cuts.select(canonical_key(_GROUP, cuts.schema[_GROUP])).to_series()
    limits = dict(zip(labels, zip(*(cuts[name] for name in shares), strict=True), strict=True))
    return placed.with_columns(_part(pl.col(_PLACE), *bounds).alias(_PART)).drop(_PLACE), limits


def _part_by_time(table: pl.LazyFrame, rule: Split, group: pl.Expr | None) -> tuple[pl.Expr, Limits]:
    """Return the part of a row: the latest rows are the test. Rows of the same time are in the same part."""
    assert rule.column is not None
    time = _time(table, rule.column)
    time = _latest(table, time, group) if group is not None else time
    low, high, rows = aggregate(table.select(time.min().alias("low"), time.max().alias("high"), pl.len())).row(0)
    digit = ((time - low).cast(pl.Float64) / max(high - low, 1) * (_DIGITS - 1)).cast(pl.Int64)
    values = table.select(pl.lit(0).alias(_GROUP), time.alias(_PLACE), digit.alias(_DIGIT))
    starts, before = [], rows
    for share in (rule.test, rule.validation):
        rank = max(before - max(floor(share * rows + _ROUNDING), 1), 0)
        starts.append(_at_ranks(values, pl.DataFrame({_GROUP: [0], _RANK: [rank]}))[0, _PLACE])
        before = aggregate(values.filter(pl.col(_PLACE) < starts[-1]).select(pl.len())).item()
    return _first_match(*(time >= start for start in starts)), {"": (starts[0], starts[1])}


def _latest(table: pl.LazyFrame, time: pl.Expr, group: pl.Expr) -> pl.Expr:
    """Return the time of the latest row of each row's group."""
    latest = aggregate(table.select(group.alias(_GROUP), time.alias(_PLACE)).group_by(_GROUP).max())
    return group.replace_strict(latest[_GROUP], latest[_PLACE], return_dtype=pl.Int64)


def _require_groups(table: pl.LazyFrame, name: str) -> None:
    schema = table.collect_schema()
    if name not in schema:
        raise missing_column_error(name, "group column", schema, where="split.group")
    missing = aggregate(table.select(canonical_key(name, schema[name]).null_count())).item()
    if missing:
        raise DataError(
            f"{missing} rows have no {name}, so it is unknown which rows must stay together",
            where="split.group",
            fix=f"send them to quarantine: declare {name} with max_missing: 0 and on_fail: quarantine",
        )


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
    return time_value(name, schema[name])


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
            + "".join(f"; {name} may have too few distinct values" for name in _deciding_columns(parameters.split)),
        )
    if by_class:
        _check_classes(counts.filter(pl.col(_GROUP).is_not_null()), parameters.target)
    return rows


def _deciding_columns(rule: Split) -> list[str]:
    return [name for name in (rule.column, rule.group) if name is not None]


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
