"""Measure how well each single column predicts the target.

A column that predicts it almost perfectly may be known only after the outcome: target leakage.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ml_pipelines.spec.metrics import Task

__all__ = ["MAX_SAMPLE_ROWS", "leakage_strengths"]

MAX_SAMPLE_ROWS = 100_000

_MAX_CLASSES = 50
_MIN_CLASS_ROWS = 10
_MAX_LEVELS = 50
_MIN_LEVEL_ROWS = 20


def leakage_strengths(sample: pl.DataFrame, target: str, task: Task) -> dict[str, float]:
    """Return how strongly each column of a sample predicts the target.

    Args:
        sample: rows with a target, at most :data:`MAX_SAMPLE_ROWS`.
        target: name of the target column.
        task: in a classification the strength is the ROC-AUC of the column, from 0.5 to 1, the best over the classes
            and over both directions; in a regression the absolute rank correlation, from 0 to 1.

    Returns:
        The strength by column. Text with many levels, and text in a regression, is left out. Empty if there are too few
        rows to distinguish a relation from chance.
    """
    # Methods of a series read its name as a pattern, so the series get plain names.
    columns = {name: sample[name].alias("column") for name in sample.columns if name != target}
    labels = sample[target].alias("label")
    if task == "regression":
        strengths = {name: _correlation(column, labels) for name, column in columns.items()}
    else:
        classes = _classes(labels)
        several = classes.max(initial=-1) > 0
        strengths = {name: _auc(column, classes) for name, column in columns.items()} if several else {}
    return {name: strength for name, strength in strengths.items() if strength is not None}


def _classes(target: pl.Series) -> NDArray[np.int64]:
    """Return the class of each row: 1, 2, ... for classes with enough rows, else 0; all 0 if there is one class."""
    labels = target.cast(pl.String)
    counts = labels.value_counts(sort=True, name="rows")
    ample = counts.filter(pl.col("rows") >= _MIN_CLASS_ROWS)["label"].head(_MAX_CLASSES).sort()
    if counts.height < 2 or ample.is_empty():
        return np.zeros(len(labels), dtype=np.int64)
    codes = {level: code for code, level in enumerate(ample, 1)}
    return labels.replace_strict(codes, default=0, return_dtype=pl.Int64).to_numpy()


def _auc(column: pl.Series, classes: NDArray[np.int64]) -> float | None:
    counts = _counts(column, classes)
    if column.dtype == pl.String:
        levels = int(np.count_nonzero(counts.sum(axis=1)))
        if levels > min(_MAX_LEVELS, len(column) // _MIN_LEVEL_ROWS):
            return None
        # Text has no order, so the levels are sorted by their share of the class, for each class.
        orders = enumerate(np.argsort(_shares(counts)[:, 1:], axis=0, kind="stable").T)
        return max(float(_rank_auc(counts[order])[one]) for one, order in orders)
    # Missing values may predict the label as well, so they rank once below and once above all others.
    aucs = np.concatenate([_rank_auc(counts), _rank_auc(np.roll(counts, -1, axis=0))])
    return float(np.maximum(aucs, 1 - aucs).max())


def _counts(column: pl.Series, classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the rows by level (ascending, the first for missing values) and class."""
    if column.dtype.is_float():
        column = column.fill_nan(None)
    levels = column.rank("dense").fill_null(0).cast(pl.Int64).to_numpy()
    width = int(classes.max()) + 1
    return np.bincount(levels * width + classes, minlength=(int(levels.max()) + 1) * width).reshape(-1, width)


def _shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return shares


def _rank_auc(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the ROC-AUC of the order of the levels, for each class but the first against all others.

    It is the share of pairs in the right order (Mann-Whitney U); ties count half.
    """
    positive = counts[:, 1:].astype(float)
    negative = counts.sum(axis=1, keepdims=True) - positive
    below = np.cumsum(negative, axis=0) - negative
    pairs = positive.sum(axis=0) * negative.sum(axis=0)
    aucs: NDArray[np.float64] = (positive * (below + negative / 2)).sum(axis=0) / np.maximum(pairs, 1)
    return aucs


def _correlation(column: pl.Series, target: pl.Series) -> float | None:
    if column.dtype == pl.String:
        return None
    both = pl.DataFrame({"column": _numbers(column), "target": _numbers(target)}).drop_nulls()
    if both.height < _MIN_LEVEL_ROWS or both["column"].n_unique() < 2 or both["target"].n_unique() < 2:
        return None
    ranks = both.select(pl.all().rank()).to_numpy()
    return float(abs(np.corrcoef(ranks, rowvar=False)[0, 1]))


def _numbers(column: pl.Series) -> pl.Series:
    return column.to_physical().cast(pl.Float64).fill_nan(None)
