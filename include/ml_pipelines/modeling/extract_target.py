"""The target column as an estimator takes it, and its positive label."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ml_pipelines.data.class_labels import default_positive, match_label
from ml_pipelines.errors import DataError
from ml_pipelines.spec.metric_table import Task

__all__ = ["extract_target"]


def extract_target(
    rows: pl.DataFrame, name: str, *, task: Task, positive: str | int | bool | None
) -> tuple[NDArray[Any], Any]:
    """Return the target column and the positive label.

    Args:
        rows: with the target column.
        name: of the target column.
        task: classification or regression.
        positive: the declared positive label; None for 1, true, or the rarer label.

    Returns:
        Shape (rows,): float64 for a regression; booleans, integers or texts for a classification. And the positive
        label, None unless there are two classes.

    Raises:
        DataError: the column is missing, incomplete, has one value or another type than the task needs, or the
            positive label is not one of two labels.
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
    if task == "classification" and len(values) > 2 and positive is not None:
        raise DataError(
            f"the target {name!r} has {len(values)} labels, and a positive one needs two",
            where="data.positive",
            expected="two labels",
            got=", ".join(map(repr, values[:10].tolist())),
            fix="send the rows of other labels to quarantine, or remove data.positive",
        )
    if task == "regression" or len(values) > 2:
        return y, None
    return y, _positive(y, positive, name)


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


def _positive(y: NDArray[Any], declared: str | int | bool | None, name: str) -> Any:
    values, rows = np.unique(y, return_counts=True)
    classes = values.tolist()
    if declared is None:
        return default_positive(dict(sorted(zip(classes, rows.tolist(), strict=True), key=lambda item: item[1])))
    if (label := match_label(declared, classes)) is not None:
        return label
    raise DataError(
        f"the positive label of {name!r} is not among its labels",
        where="data.positive",
        expected=f"one of the labels {classes[0]!r} and {classes[1]!r}",
        got=repr(declared),
        fix=f"set data.positive to {classes[0]!r} or {classes[1]!r}",
    )
