"""Transformers that scikit-learn lacks, and the preprocessing that is made of them.

All of them map pandas frames to pandas frames: they select columns by name, keep the index and accept missing values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler, TargetEncoder
from sklearn.utils.validation import check_is_fitted

from ml_pipelines.errors import DataError
from ml_pipelines.spec.metric_table import Task
from ml_pipelines.spec.training import Outliers

__all__ = [
    "MISSING",
    "CategoryEncoder",
    "DateFeatures",
    "MedianImputer",
    "NumericConverter",
    "QuantileClipper",
    "build_preprocessor",
    "check_columns",
]

MISSING = "<missing>"
_PARTS = ("year", "month", "day", "weekday", "days")


def check_columns(expected: Iterable[str], present: Iterable[str], *, where: str = "") -> None:
    """Raise an error that names the columns that a table lacks.

    Args:
        expected: names of the columns that a model was trained on.
        present: names of the columns of the table.
        where: name of the table, for the message.

    Raises:
        DataError: at least one is missing.
    """
    columns = list(present)
    if missing := [name for name in expected if name not in columns]:
        raise DataError(
            f"columns that the model was trained on are missing: {', '.join(missing)}",
            where=where,
            got=f"columns {', '.join(map(str, columns)) or 'none'}",
            fix="add the columns, under the same names as in training",
        )


def build_preprocessor(
    features: Sequence[Mapping[str, Any]], *, task: Task, outliers: Outliers | None, folds: Any
) -> ColumnTransformer:
    """Return the transformer of feature columns to numbers; it learns in `fit` only.

    Args:
        features: name and encoding of each: `number`, `onehot`, `target`, `date` or `datetime`.
        task: classification or regression.
        outliers: columns and quantiles to clip at.
        folds: splitter with a seed, for the cross-fitting of target encodings.

    Returns:
        A transformer whose output is dense and holds no missing values.
    """
    branches = {
        "number": [("numbers", NumericConverter()), *_clipping(outliers), *_filling()],
        "onehot": [("levels", CategoryEncoder()), ("encode", _onehot()), _by_column()],
        "target": [
            ("levels", CategoryEncoder()),
            ("encode", _means(task, folds)),
            _by_column(),
            ("scale", StandardScaler()),
        ],
        "date": [("parts", DateFeatures()), *_filling()],
        "datetime": [("parts", DateFeatures(hour=True)), *_filling()],
    }
    columns = {kind: [feature["name"] for feature in features if feature["encoding"] == kind] for kind in branches}
    used = [(kind, Pipeline(branches[kind]), names) for kind, names in columns.items() if names]
    return ColumnTransformer(used, remainder="drop", sparse_threshold=0.0, verbose_feature_names_out=False)


def _clipping(outliers: Outliers | None) -> list[tuple[str, Any]]:
    if outliers is None:
        return []
    return [("clip", QuantileClipper(list(outliers.columns), outliers.lower, outliers.upper))]


def _filling() -> list[tuple[str, Any]]:
    return [("fill", MedianImputer()), ("scale", StandardScaler())]


def _onehot() -> OneHotEncoder:
    # Levels in less than 1 % of the rows share a column with levels that are not in the training rows.
    return OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=0.01, sparse_output=False)


def _means(task: Task, folds: Any) -> TargetEncoder:
    # Without `continuous`, it takes integers of a regression for classes, and makes a column of each.
    return TargetEncoder(cv=folds, target_type="continuous" if task == "regression" else "auto")


def _by_column() -> tuple[str, FunctionTransformer]:
    # Contiguous columns, as in the other branches: faster to join, and faster for trees to read.
    return "columns", FunctionTransformer(np.asfortranarray, feature_names_out="one-to-one")


class _ByColumn(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Base class that stores the columns of `fit` and refuses a frame that lacks one."""

    def fit(self, X: pd.DataFrame, y: Any = None) -> Self:
        """Store the column names. `y` is not used."""
        self.feature_names_in_ = np.asarray([str(name) for name in X.columns], dtype=object)
        self.n_features_in_ = len(self.feature_names_in_)
        return self

    def _columns(self, X: pd.DataFrame) -> pd.DataFrame:
        check_is_fitted(self, "feature_names_in_")
        check_columns(self.feature_names_in_, X.columns, where=type(self).__name__)
        return X[list(self.feature_names_in_)]


class NumericConverter(OneToOneFeatureMixin, _ByColumn):  # type: ignore[misc]
    """Numbers and booleans as float64; infinities become missing."""

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """Convert all columns."""
        frame = self._columns(X)
        numbers = {name: _float(frame[name]) for name in frame.columns}
        return pd.DataFrame(numbers, index=X.index, columns=frame.columns)


class QuantileClipper(OneToOneFeatureMixin, _ByColumn):  # type: ignore[misc]
    """Clips values at quantiles of the training rows. Missing values stay missing.

    Args:
        columns: names of the columns to clip.
        lower: quantile, 0 to 1.
        upper: quantile, 0 to 1.
    """

    def __init__(self, columns: Sequence[str] = (), lower: float = 0.01, upper: float = 0.99) -> None:
        self.columns = columns
        self.lower = lower
        self.upper = upper

    def fit(self, X: pd.DataFrame, y: Any = None) -> Self:
        """Compute the bounds. A column without values has none. `y` is not used."""
        super().fit(X, y)
        check_columns(self.columns, X.columns, where="outliers")
        self.bounds_ = {name: _bounds(X[name], self.lower, self.upper) for name in self.columns}
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """Clip the named columns."""
        frame = self._columns(X).copy()
        for name, (low, high) in self.bounds_.items():
            frame[name] = frame[name].clip(low, high)
        return frame


class MedianImputer(_ByColumn):
    """Replaces missing numbers by the median of the training rows, or 0 for a column without values.

    A column with missing training values gets an indicator column, 1 where the value is missing. scikit-learn's
    SimpleImputer computes the same. It sorts masked arrays, which takes many times as long.
    """

    def fit(self, X: pd.DataFrame, y: Any = None) -> Self:
        """Compute the medians, and the columns with missing values. `y` is not used."""
        super().fit(X, y)
        medians = {name: float(X[name].median()) for name in self.feature_names_in_}
        self.medians_ = {name: 0.0 if np.isnan(median) else median for name, median in medians.items()}
        self.incomplete_ = [name for name in self.feature_names_in_ if X[name].isna().any()]
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """Fill all columns, and append the indicator columns."""
        frame = self._columns(X)
        table = np.empty((len(self.medians_) + len(self.incomplete_), len(X)))
        for values, (name, median) in zip(table, self.medians_.items(), strict=False):
            values[:] = frame[name]
            values[np.isnan(values)] = median
        for values, name in zip(table[len(self.medians_) :], self.incomplete_, strict=True):
            values[:] = frame[name].isna()
        return pd.DataFrame(table.T, index=X.index, columns=self.get_feature_names_out(), copy=False)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Return the column names, then `missingindicator_{column}`, which is scikit-learn's name."""
        names = [*self.feature_names_in_, *(f"missingindicator_{name}" for name in self.incomplete_)]
        return np.asarray(names, dtype=object)


class CategoryEncoder(OneToOneFeatureMixin, _ByColumn):  # type: ignore[misc]
    """Replaces each level by its position among the sorted levels of the training rows; -1 for any other level.

    The encoder after it compares numbers instead of Python objects. Values of any type are levels as text, and missing
    ones are the level :data:`MISSING`. A column of the pandas type `category` is read by level instead of by row.
    """

    def fit(self, X: pd.DataFrame, y: Any = None) -> Self:
        """Store the levels. `y` is not used."""
        super().fit(X, y)
        self.levels_ = {name: _levels(X[name]) for name in self.feature_names_in_}
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """Convert all columns."""
        frame = self._columns(X)
        positions = {name: _positions(frame[name], levels) for name, levels in self.levels_.items()}
        return pd.DataFrame(positions, index=X.index, columns=frame.columns)


class DateFeatures(_ByColumn):
    """Replaces times by year, month, day, weekday (Monday is 0) and days since 1970-01-01.

    Accepts datetimes, dates and ISO 8601 texts; offsets are converted to UTC.

    Args:
        hour: also return the hour.
    """

    def __init__(self, hour: bool = False) -> None:
        self.hour = hour

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """Return float64 columns with the names of :meth:`get_feature_names_out`; missing where the time is missing."""
        frame = self._columns(X)
        parts = [part for name in frame.columns for part in self._parts(_times(frame[name]))]
        table = pd.DataFrame(dict(enumerate(parts)), index=X.index)
        return table.set_axis(self.get_feature_names_out(), axis=1)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Return `{column}_{part}`, column by column."""
        names = self.feature_names_in_ if input_features is None else input_features
        parts = (*_PARTS, "hour") if self.hour else _PARTS
        return np.asarray([f"{name}_{part}" for name in names for part in parts], dtype=object)

    def _parts(self, times: pd.Series) -> list[pd.Series]:
        at = times.dt
        days = (times - pd.Timestamp(0)) // pd.Timedelta(days=1)
        parts = [at.year, at.month, at.day, at.day_of_week, days, *([at.hour] if self.hour else [])]
        return [part.astype("float64") for part in parts]


def _float(column: pd.Series) -> NDArray[np.float64]:
    try:
        numbers = np.asarray(column.astype("float64"), dtype=np.float64)
    except (TypeError, ValueError) as exc:
        raise DataError(
            f"column {column.name!r} has cells that are not numbers", expected="numbers", got=str(exc)
        ) from exc
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _text(column: pd.Series) -> NDArray[np.object_]:
    missing = column.isna().to_numpy()
    texts = [MISSING if absent else str(value) for value, absent in zip(column, missing, strict=True)]
    return np.asarray(texts, dtype=object)


def _levels(column: pd.Series) -> NDArray[np.object_]:
    codes, texts = _coded(column)
    return np.unique(texts[np.unique(codes)])


def _positions(column: pd.Series, levels: NDArray[np.object_]) -> NDArray[np.intp]:
    codes, texts = _coded(column)
    index = {level: position for position, level in enumerate(levels)}
    positions: NDArray[np.intp] = np.asarray([index.get(text, -1) for text in texts], dtype=np.intp)[codes]
    return positions


def _coded(column: pd.Series) -> tuple[NDArray[np.integer], NDArray[np.object_]]:
    """Codes of the rows, and the texts that they index. A text may occur twice, or in no row."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        # The code of what is missing is -1, and so the last text.
        return column.cat.codes.to_numpy(), np.append(_text(pd.Series(column.cat.categories, dtype=object)), MISSING)
    return pd.factorize(_text(column))


def _bounds(column: pd.Series, lower: float, upper: float) -> tuple[float | None, float | None]:
    low, high = column.quantile(lower), column.quantile(upper)
    return (None, None) if pd.isna(low) else (float(low), float(high))


def _times(column: pd.Series) -> pd.Series:
    try:
        return pd.to_datetime(column, utc=True, format="ISO8601").dt.tz_localize(None)
    except (TypeError, ValueError) as exc:
        raise DataError(
            f"column {column.name!r} has cells that are not dates", expected="dates as ISO 8601", got=str(exc)
        ) from exc
