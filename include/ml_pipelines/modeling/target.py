"""The target column as an estimator takes it, and which label counts as a hit."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ml_pipelines.errors import DataError
from ml_pipelines.pipeline.parameters import TrainParameters

__all__ = ["extract_target"]


def extract_target(rows: pl.DataFrame, parameters: TrainParameters) -> tuple[NDArray[Any], Any]:
    """What there is to learn.

    Returns:
        Shape (n,): float64 for a regression; booleans, whole numbers or texts for a classification. And the label
        that counts as a hit, None unless there are two.

    Raises:
        DataError: the column is missing, incomplete, of one value, not of the task's type, or it is not known which
            label counts as a hit.
    """
    name = parameters.target
    if name not in rows.columns:
        raise DataError(f"the target column {name!r} is missing", got=f"columns {', '.join(rows.columns)}")
    if rows.is_empty():
        raise DataError("there are no rows to train on", expected="at least two rows of different targets")
    target = rows[name]
    missing = target.null_count() + (int(target.is_nan().sum()) if target.dtype.is_float() else 0)
    if missing:
        raise DataError(f"the target {name!r} is missing in {missing} of {len(rows)} rows", fix="remove these rows")
    y = _numbers(target) if parameters.task == "regression" else _labels(target)
    values = np.unique(y)
    if len(values) < 2:
        raise DataError(
            f"the target {name!r} has a single value", expected="at least two", got=str(values[0]), fix="add rows"
        )
    if parameters.task == "regression" or len(values) > 2:
        return y, None
    return y, _positive(values.tolist(), parameters)


def _numbers(target: pl.Series) -> NDArray[Any]:
    if not (target.dtype.is_numeric() or target.dtype == pl.Boolean) or not target.cast(pl.Float64).is_finite().all():
        raise DataError(
            f"the target {target.name!r} does not hold finite numbers only",
            expected="numbers, since model.task is regression",
            got=str(target.dtype),
            fix="set model.task to classification, or correct the column",
        )
    return target.cast(pl.Float64).to_numpy()


def _labels(target: pl.Series) -> NDArray[Any]:
    if target.dtype.is_integer() or target.dtype == pl.Boolean:
        return target.to_numpy()
    if target.dtype.is_float() and (target == target.round()).all():
        return target.cast(pl.Int64).to_numpy()
    if target.dtype.is_numeric() or target.dtype.is_temporal():
        raise DataError(
            f"the target {target.name!r} does not hold labels",
            expected="texts, booleans or whole numbers, since model.task is classification",
            got=str(target.dtype),
            fix="set model.task to regression, or correct the column",
        )
    return np.asarray(target.cast(pl.String).to_list(), dtype=str)


def _positive(classes: list[Any], parameters: TrainParameters) -> Any:
    declared = parameters.positive
    if declared is None and classes in ([0, 1], [False, True]):
        return classes[1]
    for label in classes:
        if declared is not None and str(label).lower() == str(declared).lower():
            return label
    raise DataError(
        f"which label of {parameters.target!r} counts as a hit is not known",
        where="data.positive",
        expected=f"one of the labels {classes[0]!r} and {classes[1]!r}",
        got="nothing" if declared is None else repr(declared),
        fix=f"set data.positive to {classes[0]!r} or {classes[1]!r}",
    )
