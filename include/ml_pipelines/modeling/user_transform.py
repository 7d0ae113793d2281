"""Apply the transform of a declaration: a user function that maps the feature columns of rows to other columns.

The function works row by row, and does not see key, group and target. So training, evaluation, scoring and drift apply
it each to their own rows, with equal values. The training record holds the digests of its sources: other sources are an
error.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import polars as pl
from numpy.typing import NDArray

from ml_pipelines.errors import UserCodeError
from ml_pipelines.modeling.features import feature_dtypes, feature_frame
from ml_pipelines.modeling.row_wise import check_row_wise
from ml_pipelines.modeling.transform_result import check_result, table_from_frame
from ml_pipelines.pipeline.user_code import load_code, require_unchanged, source_digests
from ml_pipelines.pipeline.user_errors import user_code_errors

__all__ = [
    "TransformedRows",
    "check_transform",
    "input_columns",
    "model_frame",
    "record_transform",
    "transform_rows",
    "transform_table",
    "user_frame",
]

KEY = "features.transform"
_ENCODINGS = {"string": "onehot", "date": "date", "datetime": "datetime"}  # not used: a transform gets the values
Record = Mapping[str, Any]
Frames = Callable[[pd.DataFrame], pd.DataFrame]


class TransformedRows(NamedTuple):
    """Rows after the transform, and the reason why a row has no valid result; empty for the others."""

    table: pl.LazyFrame
    reasons: NDArray[np.object_]


def input_columns(table: pl.LazyFrame, roles: Collection[str | None]) -> list[dict[str, Any]]:
    """Return the columns that a transform receives, as features of a training record: all without a role."""
    schema = table.collect_schema()
    dtypes = feature_dtypes({name: dtype for name, dtype in schema.items() if name not in roles})
    encodings = {name: _ENCODINGS.get(dtype, "number") for name, dtype in dtypes.items()}
    return [{"name": name, "dtype": dtype, "encoding": encodings[name]} for name, dtype in dtypes.items()]


def record_transform(path: str | None, inputs: Sequence[Record]) -> dict[str, Any] | None:
    """Return the part of the training record about a transform.

    Args:
        path: import path of the function; None without a transform.
        inputs: the columns that the function receives, as features of a training record.
    """
    if path is None:
        return None
    return {"path": path, "sources": source_digests([path]), "inputs": [*inputs]}


def model_frame(table: pl.LazyFrame, training: Record) -> pd.DataFrame:
    """Return the feature columns of rows as a model takes them.

    Args:
        table: rows with the columns of the data.
        training: training record of the model.

    Raises:
        UserCodeError: the transform fails, has other sources than in training, or gives no value.
    """
    return feature_frame(transform_table(table, training.get("transform")), training["features"])


def transform_table(table: pl.LazyFrame, transform: Record | None) -> pl.LazyFrame:
    """Return the transformed rows; the table itself without a transform. Errors as of :func:`model_frame`."""
    if transform is None:
        return table
    rows = transform_rows(table, transform)
    if failed := [reason for reason in rows.reasons if reason]:
        raise UserCodeError(
            f"{transform['path']} {failed[0]}",
            where=KEY,
            expected="a finite value in each row whose inputs are complete",
            got=f"{len(failed)} of {len(rows.reasons)} rows without one",
            fix="handle the case in the function, for example with fillna",
        )
    return rows.table


def transform_rows(table: pl.LazyFrame, transform: Record) -> TransformedRows:
    """Return the transformed rows with the reasons of the failed ones.

    Raises:
        UserCodeError: the function fails, has other sources than in training, or returns another form.
    """
    frame = user_frame(table, transform["inputs"])
    complete = ~frame.isna().any(axis=1).to_numpy()
    result = _load(transform)(frame)
    return TransformedRows(table_from_frame(result, transform["path"]).lazy(), _reasons(result, complete))


def check_transform(table: pl.LazyFrame, path: str, inputs: Sequence[Record]) -> None:
    """Apply a transform to all rows once, and check on a sample that it works row by row.

    Raises:
        UserCodeError: as of :func:`model_frame`; or a value depends on other rows or on chance.
    """
    transform: Record = {"path": path, "sources": source_digests([path]), "inputs": [*inputs]}
    transform_table(table, transform)
    check_row_wise(_load(transform), user_frame(table, transform["inputs"]), path)


def user_frame(table: pl.LazyFrame, columns: Sequence[Record]) -> pd.DataFrame:
    """Return rows as user code receives them.

    Texts are objects, because the levels of a category would depend on the other rows.
    """
    frame = feature_frame(table, columns)
    texts = [name for name in frame.columns if isinstance(frame[name].dtype, pd.CategoricalDtype)]
    # From 1, so that a function that resets the index is noticed.
    return frame.astype(dict.fromkeys(texts, object)).set_axis(pd.RangeIndex(1, len(frame) + 1))


def _load(transform: Record) -> Frames:
    """Return the function with its checks."""
    path = transform["path"]
    require_unchanged(path, transform["sources"], where=KEY)
    function = load_code(path, where=KEY)

    def apply(frame: pd.DataFrame) -> pd.DataFrame:
        with user_code_errors(path, KEY):
            result = function(frame.copy())
        return check_result(result, frame.index, path)

    return apply


def _reasons(result: pd.DataFrame, complete: NDArray[np.bool_]) -> NDArray[np.object_]:
    reasons = np.full(len(result), "", dtype=object)
    for name in result.columns:
        failed = complete & _invalid(result[name]) & (reasons == "")
        reasons[failed] = f"returns no finite value in {name!r}"
    return reasons


def _invalid(column: pd.Series) -> NDArray[np.bool_]:
    missing = column.isna().to_numpy()
    if pd.api.types.is_float_dtype(column.dtype):
        return np.asarray(missing | np.isinf(column.to_numpy(dtype=np.float64, na_value=np.nan)))
    return np.asarray(missing)
