"""Feature columns as pandas frames, the same in training, evaluation and deployment, and predictions on them.

The dtype of a feature decides the type of its column in the pandas frame:

========== ===================================================
dtype      column
========== ===================================================
integer    float64, missing as NaN
float      float64, missing and infinite as NaN
boolean    boolean (nullable)
string     category of sorted texts, missing as NaN
date       datetime64[us], naive
datetime   datetime64[us], naive, UTC
========== ===================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from numpy.typing import NDArray

from ml_pipelines.data.column_expressions import check_row_count, column
from ml_pipelines.data.streaming import count_rows
from ml_pipelines.errors import DataError
from ml_pipelines.modeling.preprocessing import check_columns

__all__ = ["feature_dtypes", "feature_frame", "frame_from_records", "frame_to_records", "predict"]

Feature = Mapping[str, Any]

_CASTS: dict[str, pl.DataType] = {
    "integer": pl.Float64(),
    "float": pl.Float64(),
    "boolean": pl.Boolean(),
    "string": pl.String(),
    "date": pl.Datetime("us"),
    "datetime": pl.Datetime("us"),
}
_GROUPS = {"integer": "number", "float": "number", "date": "time", "datetime": "time"}


def feature_dtypes(schema: Mapping[str, pl.DataType]) -> dict[str, str]:
    """Return the dtype of each column by name. A column of type Null counts as text with missing values only.

    Raises:
        DataError: the type of a column is not supported.
    """
    return {name: _dtype(name, kind) for name, kind in schema.items()}


def feature_frame(table: pl.LazyFrame, features: Sequence[Feature]) -> pd.DataFrame:
    """Return the feature columns of a table as a pandas frame, in the order of the features.

    Args:
        table: has at least the feature columns; this function collects it.
        features: of the training record.

    Raises:
        DataError: a column is missing, or of another type than it had in training.
    """
    schema = table.collect_schema()
    check_columns([feature["name"] for feature in features], schema.names())
    for feature in features:
        _check_type(feature, schema[feature["name"]])
    rows = table.select(_column(feature, schema[feature["name"]]) for feature in features).collect()
    check_row_count(len(rows), count_rows(table), where="features")
    # Methods of a series read its name as a pattern, so the series get a plain name.
    columns = {feature["name"]: _to_pandas(rows[feature["name"]].alias("column")) for feature in features}
    return pd.DataFrame(columns, copy=False)


def frame_to_records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a frame as JSON values: missing ones as None, times as ISO 8601."""
    columns = {name: [_json(value) for value in frame[name].astype(object)] for name in frame.columns}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def frame_from_records(rows: Sequence[Mapping[str, Any]], features: Sequence[Feature]) -> pd.DataFrame:
    """Return rows as a frame like that of :func:`feature_frame`; the inverse of :func:`frame_to_records`.

    Raises:
        DataError: a row lacks a feature, or a value is of another type.
    """
    names = [feature["name"] for feature in features]
    for row in rows:
        check_columns(names, row)
    columns = {feature["name"]: _series([row[feature["name"]] for row in rows], feature) for feature in features}
    return pd.DataFrame(columns, index=range(len(rows)))


def predict(model: Any, frame: pd.DataFrame, training: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return the predictions of a model.

    Args:
        model: a fitted estimator.
        frame: of :func:`feature_frame`, n rows.
        training: the training record of the model.

    Returns:
        Shape (n,): the probability of the positive class of two, or the prediction of a regression.
        Shape (n, classes): the probability of each class, in the order of `training["classes"]`.

    Raises:
        DataError: the frame lacks a column.
    """
    check_columns([feature["name"] for feature in training["features"]], frame.columns)
    if training["task"] == "regression":
        return np.asarray(model.predict(frame), dtype=np.float64)
    probabilities = np.asarray(model.predict_proba(frame), dtype=np.float64)
    if training["positive"] is None:
        return probabilities
    return probabilities[:, training["classes"].index(training["positive"])]


def _dtype(name: str, kind: pl.DataType) -> str:
    if kind.is_integer():
        return "integer"
    if kind.is_float() or kind.is_decimal():
        return "float"
    if isinstance(kind, pl.String | pl.Categorical | pl.Enum | pl.Null):
        return "string"
    simple = {pl.Boolean: "boolean", pl.Date: "date", pl.Datetime: "datetime"}
    if (dtype := simple.get(kind.base_type())) is None:
        raise DataError(
            f"column {name!r} can't be a feature",
            expected="numbers, booleans, texts, dates or datetimes",
            got=str(kind),
            fix="name the column under data.ignore, or convert it at the source",
        )
    return dtype


def _check_type(feature: Feature, kind: pl.DataType) -> None:
    expected = feature["dtype"]
    if isinstance(kind, pl.Null) or expected == "string":
        return
    got = _dtype(feature["name"], kind)
    if _GROUPS.get(got, got) != _GROUPS.get(expected, expected):
        raise DataError(
            f"column {feature['name']!r} is of another type than in training",
            expected=expected,
            got=got,
            fix="declare the column's type under data.columns, or train a new model",
        )


def _column(feature: Feature, kind: pl.DataType) -> pl.Expr:
    values = column(feature["name"])
    if isinstance(kind, pl.Datetime) and kind.time_zone not in (None, "UTC"):
        values = values.dt.convert_time_zone("UTC")
    if isinstance(kind, pl.Datetime):
        values = values.dt.replace_time_zone(None)
    cast = values.cast(_CASTS[feature["dtype"]])
    if feature["dtype"] in ("integer", "float"):
        return pl.when(cast.is_finite()).then(cast)
    return cast


def _to_pandas(column: pl.Series) -> pd.Series:
    if column.dtype == pl.String:
        return pd.Series(_categorical(column))
    if column.dtype == pl.Boolean:
        values, missing = column.fill_null(False).to_numpy(writable=True), column.is_null().to_numpy(writable=True)
        return pd.Series(pd.arrays.BooleanArray(values, missing), copy=False)
    return pd.Series(column.to_numpy(writable=True), copy=False)


def _categorical(column: pl.Series) -> pd.Categorical:
    """Return codes by row, with one Python object a level: a tenth of the time and memory for a million rows.

    polars' own Categorical is no alternative, because it shares its levels among all columns of the process.
    """
    levels = column.drop_nulls().unique().sort()
    codes = column.cast(pl.Enum(levels)).to_physical().cast(pl.Int32).fill_null(-1)
    return pd.Categorical.from_codes(codes.to_numpy(), pd.Index(levels.to_list(), dtype=object))


def _series(values: list[Any], feature: Feature) -> pd.Series:
    dtype = feature["dtype"]
    try:
        if dtype in ("date", "datetime"):
            times = pd.to_datetime(pd.Series(values, dtype=object), utc=True, format="ISO8601")
            return times.dt.tz_localize(None).astype("datetime64[us]")
        if dtype == "boolean":
            return pd.Series(values, dtype="boolean")
        if dtype == "string":
            texts = [None if value is None else str(value) for value in values]
            return pd.Series(_categorical(pl.Series(texts, dtype=pl.String)))
        return pd.Series(values, dtype="float64")
    except (TypeError, ValueError) as exc:
        raise DataError(f"column {feature['name']!r} is no {dtype}", expected=dtype, got=str(exc)) from exc


def _json(value: Any) -> Any:
    if value is None or value is pd.NaT or value is pd.NA or value != value:
        return None
    return value.isoformat() if isinstance(value, pd.Timestamp) else value
