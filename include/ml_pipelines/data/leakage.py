"""Measure how well each single column predicts the target.

A column that predicts it almost perfectly may be known only after the outcome: target leakage. Two measures find it.
The order of the values may follow the target. Or the values in no order determine it: each value stands for the mean of
the target in other rows with this value (out-of-fold target encoding, https://doi.org/10.1145/507533.507538).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ml_pipelines.spec.metric_table import Task

__all__ = ["MAX_SAMPLE_ROWS", "Leakage", "measure_leakage"]

MAX_SAMPLE_ROWS = 100_000

_MAX_CLASSES = 50
_MIN_CLASS_ROWS = 10
_MIN_ROWS = 20
_MAX_BINS = 50
_FOLDS = 5
_MAX_SINGLE = 0.2  # share of values that occur once; above it the values are nearly unique
_DIGITS = 12  # rounding error of equal means

_Integers = NDArray[np.int64]
_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Leakage:
    """How strongly the columns of a sample predict the target.

    Attributes:
        strengths: by column. In a classification the ROC-AUC from 0.5 to 1, the mean over the classes by their rows; in
            a regression the rank correlation from 0 to 1. Empty if there are too few rows.
        of_one_class: the class that a column predicts best, with its ROC-AUC, if there are three classes or more.
        not_judged: columns without a comparison of their values, with the reason.
    """

    strengths: dict[str, float] = field(default_factory=dict)
    of_one_class: dict[str, tuple[str, float]] = field(default_factory=dict)
    not_judged: dict[str, str] = field(default_factory=dict)


def measure_leakage(sample: pl.DataFrame, target: str, task: Task) -> Leakage:
    """Return how strongly each column of a sample predicts the target.

    Args:
        sample: rows with a target, at most :data:`MAX_SAMPLE_ROWS`.
        target: name of the target column.
        task: task of the model.
    """
    leakage = Leakage()
    measure = _measure(sample[target].alias("label"), task)
    if measure is None:
        return leakage
    for name in sample.columns:
        column = sample[name].alias("column")  # methods of a series read its name as a pattern
        if name == target:
            continue
        if column.dtype.is_nested() or column.dtype == pl.Binary:
            leakage.not_judged[name] = f"of type {column.dtype}"
            continue
        values = _Values(codes=_codes(column), is_text=_is_text(column))
        if values.is_text and (share := _single_share(values.codes)) > _MAX_SINGLE:
            leakage.not_judged[name] = f"{share:.0%} of its values occur once"
        leakage.strengths[name], best = measure(values)
        if best is not None:
            leakage.of_one_class[name] = best
    return leakage


@dataclass(frozen=True, slots=True, kw_only=True)
class _Values:
    """The values of a column as codes in their order, 0 for a missing one. The order of text means nothing."""

    codes: _Integers
    is_text: bool


_Measure = Callable[[_Values], tuple[float, tuple[str, float] | None]]


def _measure(target: pl.Series, task: Task) -> _Measure | None:
    """Return the function that measures a column; None for a target with too few rows or values."""
    if task == "classification":
        names, classes = _classes(target)
        return partial(_classification_strength, names=names, classes=classes) if names else None
    if len(target) < _MIN_ROWS or target.n_unique() < 2:
        return None
    return partial(_regression_strength, target=_numbers(target).rank().to_numpy())


# --- groups of equal or similar values


def _is_text(column: pl.Series) -> bool:
    return column.dtype in (pl.String, pl.Categorical, pl.Enum)


def _codes(column: pl.Series) -> _Integers:
    """Return a number for each value, in their order, and 0 for a missing one."""
    if column.dtype.is_float():
        column = column.fill_nan(None)
    values = column.cast(pl.String) if _is_text(column) else column
    return values.rank("dense").fill_null(0).cast(pl.Int64).to_numpy()


def _single_share(codes: _Integers) -> float:
    """Return the share of the rows with a value that have it alone."""
    counts = np.bincount(codes)[1:]
    return float((counts == 1).sum() / max(counts.sum(), 1))


def _groupings(values: _Values) -> list[tuple[_Integers, NDArray[np.bool_]]]:
    """Return the groups of the rows of a column, and the rows that each grouping is about.

    Text that occurs once forms one group. Where it is rare, the other rows are a second grouping. Numbers and times
    with many values form bins of equal size.
    """
    codes, every = values.codes, np.ones(len(values.codes), dtype=bool)
    if not values.is_text:
        return [(_binned(codes), every)]
    single = (np.bincount(codes)[codes] == 1) & (codes > 0)
    pooled = np.where(single, codes.max() + 1, codes)
    rare = single.any() and _single_share(codes) <= _MAX_SINGLE
    return [(pooled, every), *([(codes[~single], ~single)] if rare else [])]


def _binned(codes: _Integers) -> _Integers:
    bins = min(_MAX_BINS, len(codes) // _MIN_ROWS)
    if int(codes.max()) <= bins:
        return codes
    below = np.cumsum(np.bincount(codes)) - np.bincount(codes)
    return np.where(codes > 0, 1 + below[codes] * bins // len(codes), 0)


def _cells(groups: _Integers) -> _Integers:
    """Return the number of group and fold for each row; the rows of a group are dealt to the folds in turn."""
    order = np.argsort(groups, kind="stable")
    starts = np.cumsum(np.bincount(groups)) - np.bincount(groups)
    places = np.empty(len(groups), dtype=np.int64)
    places[order] = np.arange(len(groups)) - starts[groups[order]]
    return groups * _FOLDS + places % _FOLDS


def _out_of_fold_means(cells: _Integers, values: _Floats) -> _Floats:
    """Return for each cell the mean of the other folds of its group; the overall mean if they have no row."""
    size = (int(cells.max()) // _FOLDS + 1) * _FOLDS
    counts, sums = np.bincount(cells, minlength=size), np.bincount(cells, weights=values, minlength=size)
    others = [cell.reshape(-1, _FOLDS).sum(axis=1).repeat(_FOLDS) - cell for cell in (counts, sums)]
    means: _Floats = np.divide(others[1], others[0], out=np.full(size, values.mean()), where=others[0] > 0)
    return means.round(_DIGITS)


# --- classification: ROC-AUC


def _classes(target: pl.Series) -> tuple[list[str], _Integers]:
    """Return the classes with enough rows, and the class of each row: 1, 2, ..., or 0 for another class."""
    labels = target.cast(pl.String)
    counts = labels.value_counts(sort=True, name="rows")
    ample = counts.filter(pl.col("rows") >= _MIN_CLASS_ROWS)["label"].head(_MAX_CLASSES).sort().to_list()
    if counts.height < 2 or not ample:
        return [], np.zeros(len(labels), dtype=np.int64)
    codes = {level: code for code, level in enumerate(ample, 1)}
    return ample, labels.replace_strict(codes, default=0, return_dtype=pl.Int64).to_numpy()


def _classification_strength(
    values: _Values, *, names: list[str], classes: _Integers
) -> tuple[float, tuple[str, float] | None]:
    """Return the mean ROC-AUC over the classes; for three classes and more also the best class with its own."""
    if len(names) == 2 and classes.all():
        return float(_class_aucs(values, classes - 1, 1)[0]), None  # the other class has the same
    aucs = _class_aucs(values, classes, len(names))
    best = (names[int(aucs.argmax())], float(aucs.max())) if len(names) > 2 else None
    return float(np.average(aucs, weights=np.bincount(classes)[1:])), best


def _class_aucs(values: _Values, classes: _Integers, number: int) -> _Floats:
    """Return the ROC-AUC of a column for each class against all others, the best of all measures."""
    aucs = np.vstack([_encoded_aucs(groups, classes[rows], number) for groups, rows in _groupings(values)])
    if not values.is_text:
        counts = _counts(values.codes, classes, number)
        # Missing values may predict the label as well, so they rank once below and once above all others.
        ordered = np.vstack([_rank_aucs(counts), _rank_aucs(np.roll(counts, -1, axis=0))])
        aucs = np.vstack([aucs, np.maximum(ordered, 1 - ordered)])
    return np.asarray(aucs.max(axis=0))


def _encoded_aucs(groups: _Integers, classes: _Integers, number: int) -> _Floats:
    cells = _cells(groups)
    aucs = []
    for label in range(1, number + 1):
        means = _out_of_fold_means(cells, (classes == label).astype(float))
        _, ranks = np.unique(means, return_inverse=True)
        aucs.append(_rank_aucs(_counts(ranks[cells], (classes == label).astype(np.int64), 1))[0])
    return np.array(aucs)


def _counts(codes: _Integers, classes: _Integers, number: int) -> _Integers:
    """Count the rows by code (ascending) and class."""
    width = number + 1
    return np.bincount(codes * width + classes, minlength=(int(codes.max()) + 1) * width).reshape(-1, width)


def _rank_aucs(counts: _Integers) -> _Floats:
    """Return the ROC-AUC of the order of the codes, for each class but the first against all others.

    It is the share of pairs in the right order (Mann-Whitney U); ties count half.
    """
    positive = counts[:, 1:].astype(float)
    negative = counts.sum(axis=1, keepdims=True) - positive
    below = np.cumsum(negative, axis=0) - negative
    pairs = positive.sum(axis=0) * negative.sum(axis=0)
    aucs: _Floats = (positive * (below + negative / 2)).sum(axis=0) / np.maximum(pairs, 1)
    return aucs


# --- regression: rank correlation


def _regression_strength(values: _Values, *, target: _Floats) -> tuple[float, None]:
    by_group = max(_correlation(groups, target[rows]) for groups, rows in _groupings(values))
    return max(by_group, _order_correlation(values, target)), None


def _correlation(groups: _Integers, target: _Floats) -> float:
    """Return the correlation of the target with its out-of-fold mean in the groups; 0 for a negative one."""
    cells = _cells(groups)
    return max(0.0, _pearson(pl.Series(_out_of_fold_means(cells, target)[cells]).rank().to_numpy(), target))


def _order_correlation(values: _Values, target: _Floats) -> float:
    """Return the absolute rank correlation of numbers or times, without missing values; 0 for text."""
    rows = values.codes > 0
    if values.is_text or rows.sum() < _MIN_ROWS:
        return 0.0
    return abs(_pearson(*(pl.Series(numbers[rows]).rank().to_numpy() for numbers in (values.codes, target))))


def _pearson(first: _Floats, second: _Floats) -> float:
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _numbers(column: pl.Series) -> pl.Series:
    return column.to_physical().cast(pl.Float64).fill_nan(None)
