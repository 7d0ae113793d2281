"""Find the rows of a later table that a model has learned from, by the record of its split."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from ml_pipelines.data.canonical_keys import canonical_key
from ml_pipelines.data.column_expressions import column
from ml_pipelines.data.row_hash import row_hash
from ml_pipelines.data.split_record import SplitRecord
from ml_pipelines.data.streaming import aggregate

__all__ = ["UnknownRows", "column_kind", "learned_rows", "time_value"]

_LEADING_ZERO = r"^0\d"
_MICROSECONDS = pl.Datetime("us")


class UnknownRows(Exception):
    """The reason why the training rows of a rule can't be recognised in a table."""


def column_kind(dtype: pl.DataType) -> str:
    """Return whether a column holds `text`, a `number` or a `time`. Booleans are numbers."""
    return "text" if dtype == pl.String else "time" if dtype.is_temporal() else "number"


def time_value(name: str, dtype: pl.DataType) -> pl.Expr:
    """Return a time column as integers: microseconds of dates and datetimes."""
    cells = column(name)
    if not dtype.is_temporal():
        return cells.cast(pl.Int64)
    if isinstance(dtype, pl.Datetime) and dtype.time_zone:
        cells = cells.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return cells.cast(_MICROSECONDS).to_physical()


def learned_rows(table: pl.LazyFrame, rule: SplitRecord) -> pl.Series:
    """Return for each row whether a model with this rule has learned from it.

    These are the training rows, and after a refit also the validation rows. With groups and a split by time, these are
    all rows before the rows that were held out. The learned rows are among them: a group with later rows was held out,
    but the later rows may be missing in this table.

    Args:
        table: rows with the columns that the rule reads.
        rule: of the training of a model.

    Raises:
        UnknownRows: the table lacks a column that the rule reads, or has it in another type.
    """
    schema = table.collect_schema()
    if rule.method == "time":
        assert rule.column is not None
        _require_kind(rule.column, rule, schema)
        learned = time_value(rule.column, schema[rule.column]) < _bounds(rule)[""]
    else:
        place = _place(table, rule, schema)
        learned = place >= _held_out(rule, schema)
    # A row without a time or with a label that the rule has never met is new.
    return aggregate(table.select(learned.fill_null(False).alias("learned")))["learned"]


def _place(table: pl.LazyFrame, rule: SplitRecord, schema: Mapping[str, pl.DataType]) -> pl.Expr:
    if (key := rule.group or rule.key) is not None:
        _require_same_keys(table, rule, key, "group" if rule.group else "key", schema)
        return row_hash(table, key, rule.seed)
    for name in rule.columns:
        _require_kind(name, rule, schema)
    return row_hash(table.select(column(name) for name in rule.columns), None, rule.seed)


def _held_out(rule: SplitRecord, schema: Mapping[str, pl.DataType]) -> pl.Expr:
    bounds = _bounds(rule)
    if rule.method == "hash":
        return pl.lit(bounds[""], dtype=pl.UInt64)
    if rule.target not in schema:
        raise UnknownRows(f"the column {rule.target}, its target, is not in the data")
    labels = canonical_key(rule.target, schema[rule.target])
    return labels.replace_strict(bounds, default=None, return_dtype=pl.UInt64)


def _bounds(rule: SplitRecord) -> dict[str, int]:
    """Return the bound between learned and held-out rows, by label: that of the test set after a refit."""
    return {label: test if rule.refit else validation for label, (test, validation) in rule.limits.items()}


def _require_kind(name: str, rule: SplitRecord, schema: Mapping[str, pl.DataType]) -> None:
    if name not in schema:
        raise UnknownRows(f"the column {name}, which its split reads, is not in the data")
    kind, before = column_kind(schema[name]), rule.columns[name]
    if kind != before:
        raise UnknownRows(f"the column {name}, which its split reads, was a {before} and is a {kind}")


def _require_same_keys(
    table: pl.LazyFrame, rule: SplitRecord, key: str, role: str, schema: Mapping[str, pl.DataType]
) -> None:
    """Check that the keys are those of the rule: a type that drops or adds leading zeros makes other keys."""
    if key not in schema:
        raise UnknownRows(f"the column {key}, its {role}, is not in the data")
    before, now = rule.columns[key], column_kind(schema[key])
    if (before, now) == ("text", "number"):
        raise UnknownRows(f"the {role} {key} was text and is a number, so leading zeros may be lost")
    if before != "text" and now == "text":
        padded = table.select(canonical_key(key, schema[key]).str.contains(_LEADING_ZERO).any())
        if aggregate(padded).item():
            raise UnknownRows(f"the {role} {key} was a {before} and has leading zeros now")
