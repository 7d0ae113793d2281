"""The labels of a classification: their counts, the positive one, and labels that differ in spelling only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from unicodedata import normalize

import polars as pl

from ml_pipelines.data.column_expressions import column, missing_cell
from ml_pipelines.data.streaming import aggregate

__all__ = ["Label", "LabelCounts", "count_labels", "default_positive", "is_ordinary", "match_label", "similar_labels"]

Label = str | int | bool
LabelCounts = Mapping[Label, int]

_BLANKS = re.compile(r"[\s_-]+")


def count_labels(table: pl.LazyFrame, target: str) -> LabelCounts | None:
    """Return the number of rows by label, the rarest first; None if the target does not hold labels.

    Labels are texts, booleans and whole numbers. A row without a target does not count.
    """
    dtype = table.collect_schema()[target]
    cells = table.filter(~missing_cell(target, dtype)).select(column(target).alias("label"))
    if isinstance(dtype, pl.Categorical | pl.Enum):
        cells = cells.cast(pl.String)
    elif dtype.is_temporal() or not (dtype.is_numeric() or dtype in (pl.Boolean, pl.String, pl.Null)):
        return None
    counts = aggregate(cells.group_by("label").len().sort("len", "label"))
    if dtype.is_float():
        if not (counts["label"] == counts["label"].round()).all():
            return None
        counts = counts.with_columns(pl.col("label").cast(pl.Int64))
    return dict(counts.rows())


def match_label(declared: Label, labels: Iterable[Label]) -> Label | None:
    """Return the label that a declaration names, None if no label has this text.

    The exact text counts first, then the text in any case, so that `true` is the label `True` of a text column.
    """
    candidates = list(labels)
    for spelling in (str, lambda label: str(label).lower()):
        for label in candidates:
            if spelling(label) == spelling(declared):
                return label
    return None


def default_positive(counts: LabelCounts) -> Label | None:
    """Return the positive label of a target without a declared one: 1, true, or the rarer one of two labels.

    Args:
        counts: rows by label, the rarest first.

    Returns:
        The label, or None unless there are two labels.
    """
    if len(counts) != 2:
        return None
    if is_ordinary(counts):
        return max(counts)
    rarest, other = counts
    return max(rarest, other, key=str) if counts[rarest] == counts[other] else rarest


def is_ordinary(counts: LabelCounts) -> bool:
    """Return whether the labels are 0 and 1, or false and true, so that the positive one needs no declaration."""
    return set(counts) == {0, 1} and all(isinstance(label, int) for label in counts)


def similar_labels(labels: Iterable[Label]) -> list[Sequence[Label]]:
    """Return the groups of texts that differ only in case, blanks, underscores, hyphens and final dots."""
    groups: dict[str, list[Label]] = {}
    for label in labels:
        if isinstance(label, str):
            spelling = normalize("NFKC", label).casefold().rstrip(". ")
            groups.setdefault(_BLANKS.sub(" ", spelling).strip(), []).append(label)
    return [group for group in groups.values() if len(group) > 1]
