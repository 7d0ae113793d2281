"""Check that a function of rows gives a row the same values in any order, alone and again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from ml_pipelines.errors import UserCodeError

__all__ = ["check_row_wise"]

_SAMPLE = 200
_ALONE = 5
_TOLERANCE = 1e-9  # vectorised functions round the last digits by the position of a row

Frames = Callable[[pd.DataFrame], pd.DataFrame]


def check_row_wise(function: Frames, frame: pd.DataFrame, path: str) -> None:
    """Compare the results for a sample of rows: of all rows, again, in reverse order, and alone.

    Args:
        function: the transform, with the checks of its result.
        frame: all rows.
        path: import path, for errors.

    Raises:
        UserCodeError: two results of a row differ.
    """
    sample = frame.iloc[np.unique(np.linspace(0, len(frame) - 1, min(_SAMPLE, len(frame))).astype(int))]
    expected = function(sample)
    _compare(expected, function(sample), path, "differs between two calls with the same rows")
    _compare(expected, function(sample[::-1])[::-1], path, "depends on the order of the rows")
    _compare(expected, function(frame).loc[sample.index], path, "depends on the other rows")
    for position in np.unique(np.linspace(0, len(sample) - 1, min(_ALONE, len(sample))).astype(int)):
        row = sample.iloc[[position]]
        _compare(expected.loc[row.index], function(row), path, "depends on the other rows")


def _compare(expected: pd.DataFrame, actual: pd.DataFrame, path: str, what: str) -> None:
    if [*expected.columns] != [*actual.columns]:
        raise _error(path, f"the list of its columns {what}", f"{[*expected.columns]}", f"{[*actual.columns]}")
    for name in expected.columns:
        for before, after in zip(_cells(expected[name]), _cells(actual[name]), strict=True):
            if not _is_equal(before, after):
                raise _error(path, f"a value of {name!r} {what}", repr(before), repr(after))


def _cells(column: pd.Series) -> list[object]:
    """Return the values of a column, with None for each kind of missing value."""
    return [None if missing else value for value, missing in zip(column.astype(object), column.isna(), strict=True)]


def _is_equal(before: object, after: object) -> bool:
    if isinstance(before, float | int) and isinstance(after, float | int):
        return bool(np.isclose(before, after, rtol=_TOLERANCE, atol=0.0))
    return bool(before == after)


def _error(path: str, what: str, expected: str, got: str) -> UserCodeError:
    return UserCodeError(
        f"{path} does not work row by row: {what}",
        where="features.transform",
        expected=expected,
        got=got,
        fix="compute a row from its own cells only; a statistic of many rows must be learned from the training rows",
    )
