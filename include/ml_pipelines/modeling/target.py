"""The target column as an estimator takes it, and its positive label."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ml_pipelines.errors import DataError
from ml_pipelines.spec.metrics import Task

__all__ = ["extract_target"]


def extract_target(
    rows: pl.DataFrame, name: str, *, task: Task, positive: str | int | bool | None
) -> tuple[NDArray[Any], Any]:
    """Return the target column and the positive label.

    Args:
        rows: with the target column.
        name: of the target column.
        task: classification or regression.
        positive: the declared positive label; None if the declaration has none.

    Returns:
        Shape (rows,): float64 for a regression; booleans, integers or texts for a classification. And the positive
        label, None unless there are two classes.

    Raises:
        DataError: the column is missing, incomplete, has one value or another type than the task needs, or the
            positive label is ambiguous.
    """
    if name not in rows.columns:
        raise DataError(f"the target column {name!r} is missing", got=f"columns {', '.join(rows.columns)}")
    if rows.is_empty():
        raise DataError("there are no training rows", expected="at least two rows with different targets")
    target = rows[name].alias("target")  # methods of a series read its name as a pattern
    missing = target.null_count() + (int(target.is_nan().sum()) if target.dtype.is_float() else 0)
    if missing:
        raise DataError(f"the target {name!r} is missing in {missing} of {len(rows)} rows", fix="remove these rows")
    y = _numbers(target, name) if task == "regression" else _labels(target, name)
    values = np.unique(y)
    if len(values) < 2:
        raise DataError(
            f"the target {name!r} has a single value", expected="at least two", got=str(values[0]), fix="add rows"
        )
    if task == "regression" or len(values) > 2:
        return y, None
    return y, _positive(values.tolist(), positive, name)


def _numbers(target: pl.Series, name: str) -> NDArray[Any]:
    if not (target.dtype.is_numeric() or target.dtype == pl.Boolean) or not target.cast(pl.Float64).is_finite().all():
        raise DataError(
            f"the target {name!r} does not hold finite numbers only",
            expected="numbers, since model.task is regression",
            got=str(target.dtype),
            fix="set model.task to classification, or correct the column",
        )
    return target.cast(pl.Float64).to_numpy()


def _labels(target: pl.Series, name: str) -> NDArray[Any]:
    if target.dtype.is_integer() or target.dtype == pl.Boolean:
        return target.to_numpy()
    if target.dtype.is_float() and (target == target.round()).all():
        return target.cast(pl.Int64).to_numpy()
    if target.dtype.is_numeric() or target.dtype.is_temporal():
        raise DataError(
            f"the target {name!r} does not hold labels",
            expected="texts, booleans or whole numbers, since model.task is classification",
            got=str(target.dtype),
            fix="set model.task to regression, or correct the column",
        )
    return np.asarray(target.cast(pl.String).to_list(), dtype=str)


def _positive(classes: list[Any], declared: str | int | bool | None, name: str) -> Any:
    if declared is None and classes in ([0, 1], [False, True]):
        return classes[1]
    for label in classes:
        if declared is not None and str(label).lower() == str(declared).lower():
            return label
    raise DataError(
        f"the positive label of {name!r} is {'not declared' if declared is None else 'not among its labels'}",
        where="data.positive",
        expected=f"one of the labels {classes[0]!r} and {classes[1]!r}",
        got="nothing" if declared is None else repr(declared),
        fix=f"set data.positive to {classes[0]!r} or {classes[1]!r}",
    )
