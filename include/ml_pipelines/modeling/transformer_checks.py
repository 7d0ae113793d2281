"""Checks of a user's scikit-learn transformer and of its results."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator

from ml_pipelines.errors import UserCodeError
from ml_pipelines.pipeline.user_code import load_code
from ml_pipelines.spec.code_packages import top_level

__all__ = ["check_result", "check_rows", "check_transformer", "code_place"]

_SAMPLE = 200
_ALONE = 5

Transform = Callable[[pd.DataFrame], Any]


def code_place(transformer: Any, path: str) -> str:
    """Return `FILE:LINE: ` of a transformer's method `transform`, or else of its factory; empty for a library."""
    try:
        code = type(transformer) if type(transformer).__module__.split(".")[0] == top_level(path) else None
        target = inspect.unwrap(code.transform) if code else load_code(path, where="features.preprocessing")
        return f"{inspect.getsourcefile(target)}:{inspect.getsourcelines(target)[1]}: "
    except (AttributeError, OSError, TypeError, UserCodeError):
        return ""


def check_transformer(transformer: Any, path: str, where: str) -> None:
    """Raise UserCodeError if an object is no transformer, or has learned from rows before the fit."""
    methods = ("fit", "transform", "get_params", "set_params")
    missing = [name for name in methods if not callable(getattr(transformer, name, None))]
    place = code_place(transformer, path)
    if missing or isinstance(transformer, type):
        raise UserCodeError(
            f"{place}{path} gives no scikit-learn transformer",
            where=f"{where}: {path}",
            expected=f"an object with {', '.join(methods)}, such as TransformerMixin with BaseEstimator",
            got=f"{type(transformer).__name__} without {', '.join(missing)}",
            fix="name a transformer class, or a function without arguments that returns a transformer",
        )
    parts = (transformer, *transformer.get_params(deep=True).values())
    if fitted := [type(part).__name__ for part in parts if _is_fitted(part)]:
        raise UserCodeError(
            f"{place}{path} gives a transformer that is already fitted",
            where=f"{where}: {path}",
            expected="a transformer that learns from the training rows only",
            got=", ".join(fitted),
            fix="return the transformer without a call of fit",
        )


def check_result(result: Any, rows: int, *, allow_missing: bool, place: str, where: str) -> None:
    """Raise UserCodeError if a result is no table of finite values with one row for each input row."""
    shape: tuple[int, ...] = getattr(result, "shape", ())
    if len(shape) != 2 or shape[0] != rows:
        raise UserCodeError(
            f"{place}the transformer returns another form",
            where=where,
            expected=f"a frame, array or sparse matrix with {rows} rows",
            got=f"shape {shape}" if shape else type(result).__name__,
            fix="return one row for each row of the input",
        )
    cells = _cells(result)
    missing = 0 if allow_missing else int(pd.isna(cells).sum())
    infinite = int(np.isinf(cells).sum()) if cells.dtype.kind == "f" else 0
    if missing or infinite:
        raise UserCodeError(
            f"{place}the transformer returns missing or infinite values",
            where=where,
            expected="finite values, since the estimator accepts no missing ones" if missing else "finite values",
            got=f"{missing} missing and {infinite} infinite values in {rows} rows",
            fix="add an imputer to the transformer, or choose an estimator that accepts missing values",
        )


def check_rows(
    transforms: Sequence[Transform], results: Sequence[Any], frame: pd.DataFrame, *, place: str, where: str
) -> None:
    """Compare results for a sample of rows: of a second fit, of a second call, in reverse order, and alone.

    Args:
        transforms: method of the fitted transformer, and of a second one that is fitted on the same rows.
        results: results of these two fits for the rows.
        frame: the rows.
        place: file and line, for errors.
        where: key of the declaration, for errors.

    Raises:
        UserCodeError: two results of a row differ.
    """
    positions = _positions(len(frame), _SAMPLE)
    sample, (transform, refitted) = frame.iloc[positions], transforms
    expected = _matrix(transform(sample))
    alone = _positions(len(sample), _ALONE)
    first, second = (_rows(result, positions) for result in results)
    pairs = {
        "differs between two calls of fit_transform on the same rows": (first, second),
        "differs between two calls with the same rows": (expected, transform(sample)),
        "differs between two fits on the same rows": (expected, refitted(sample)),
        "depends on the order of the rows": (expected[::-1], transform(sample[::-1])),
        **{
            f"depends on the other rows of a call (row {row})": (expected[[row]], transform(sample.iloc[[row]]))
            for row in alone
        },
    }
    for what, (before, result) in pairs.items():
        after = _matrix(result)
        if not _is_equal(before, after):
            raise UserCodeError(
                f"{place}the result of the transformer {what}",
                where=where,
                expected="equal values, from what fit learned from the training rows",
                got=_difference(before, after),
                fix="set each random_state, also of a splitter in cv, and compute statistics of rows in fit only",
            )


def _is_fitted(part: Any) -> bool:
    learned = [name for name in getattr(part, "__dict__", {}) if name.endswith("_") and not name.startswith("_")]
    return isinstance(part, FrozenEstimator) or (hasattr(part, "get_params") and bool(learned))


def _positions(rows: int, size: int) -> NDArray[np.intp]:
    return np.unique(np.linspace(0, rows - 1, min(size, rows)).astype(np.intp))


def _is_sparse(result: Any) -> bool:
    return hasattr(result, "tocsr")


def _cells(result: Any) -> NDArray[Any]:
    return np.asarray(result.data if _is_sparse(result) else result)


def _matrix(result: Any) -> NDArray[Any]:
    return np.asarray(result.toarray() if _is_sparse(result) else result)


def _rows(result: Any, positions: NDArray[np.intp]) -> NDArray[Any]:
    if isinstance(result, pd.DataFrame):
        return _matrix(result.iloc[positions])
    return _matrix(result.tocsr()[positions] if _is_sparse(result) else result[positions])


def _is_equal(before: NDArray[Any], after: NDArray[Any]) -> bool:
    if before.shape != after.shape:
        return False
    try:  # the last digits depend on the number of rows in a call
        return np.allclose(before.astype(float), after.astype(float), rtol=1e-5, atol=1e-8, equal_nan=True)
    except (TypeError, ValueError):
        return pd.DataFrame(before).equals(pd.DataFrame(after))


def _difference(before: NDArray[Any], after: NDArray[Any]) -> str:
    if before.shape != after.shape:
        return f"shapes {before.shape} and {after.shape}"
    row, column = np.argwhere(before != after)[0]
    return f"{before[row, column]!r} and {after[row, column]!r} in output column {column}"
