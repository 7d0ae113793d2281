"""The rows of an evaluation: their labels, and groups of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ml_pipelines.contracts import JsonValue
from ml_pipelines.data.canonical_keys import canonical_key
from ml_pipelines.data.column_expressions import column, missing_column_error
from ml_pipelines.errors import DataError
from ml_pipelines.evaluation.dummy import constant_predictions, fit_dummy
from ml_pipelines.evaluation.records import GroupEvaluation
from ml_pipelines.evaluation.scorers import MetricValues, compute_metrics
from ml_pipelines.evaluation.target_schema import TargetSchema, encode_labels
from ml_pipelines.spec.gate import Slices
from ml_pipelines.spec.metric_table import Metric

__all__ = ["EvaluationRows", "Group", "Part", "read_rows"]

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Part:
    """Rows and their truth, shape (rows,).

    `clusters` are the numbers of their groups, if the split keeps groups together.
    """

    name: str
    table: pl.LazyFrame
    truth: Array
    clusters: Array | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Positions of the rows with the same level in a column."""

    column: str
    level: Any
    positions: Array


@dataclass(frozen=True, slots=True)
class EvaluationRows:
    """The rows of an evaluation, and the metrics to compute on them.

    With `refit`, the models have also learned from the validation rows. `places` are the positions of the test rows
    among all test rows, if some are left out.
    """

    target: TargetSchema
    metrics: list[Metric]
    train: Part
    validation: Part
    test: Part
    groups: list[Group]
    refit: bool = False
    places: Array | None = None

    def without(self, excluded: Array, min_rows: int) -> EvaluationRows:
        """Leave out some of the test rows, and the groups that then have fewer than `min_rows`.

        Args:
            excluded: whether a test row is left out, shape (rows,).
            min_rows: of a group.
        """
        kept = ~excluded
        places = np.cumsum(kept) - 1
        table = self.test.table.filter(pl.Series("kept", kept))
        groups = [
            Group(group.column, group.level, places[group.positions[kept[group.positions]]]) for group in self.groups
        ]
        large = [group for group in groups if len(group.positions) >= min_rows]
        clusters = self.test.clusters[kept] if self.test.clusters is not None else None
        test = Part(self.test.name, table, self.test.truth[kept], clusters)
        return replace(self, test=test, groups=large, places=np.flatnonzero(kept))

    def at(self, threshold: float | None) -> EvaluationRows:
        """Return the rows for the predictions of a model with this threshold."""
        return replace(self, target=self.target.with_threshold(threshold))

    def dummy_predictions(self, metric: Metric) -> Array:
        """Predict the test rows with the best constant of a metric on the rows that the models have learned from."""
        learned = [self.train.truth, *([self.validation.truth] if self.refit else [])]
        return constant_predictions(fit_dummy(self.target, np.concatenate(learned), metric), len(self.test.truth))

    def metrics_of_dummies(self) -> MetricValues:
        """Compute each metric of its own dummy baseline on the test rows."""
        values: MetricValues = {}
        for metric in self.metrics:
            values |= compute_metrics(self.target, self.test.truth, self.dummy_predictions(metric), [metric])
        return values

    def metrics_on_test(self, predictions: Array) -> MetricValues:
        """Compute all metrics of predictions for the test rows."""
        return compute_metrics(self.target, self.test.truth, predictions, self.metrics)

    def metrics_of_groups(self, predictions: Array) -> tuple[GroupEvaluation, ...]:
        """Compute all metrics of each group."""
        return tuple(
            GroupEvaluation(
                column=group.column,
                level=_json_level(group.level),
                rows=len(group.positions),
                metrics=compute_metrics(
                    self.target, self.test.truth[group.positions], predictions[group.positions], self.metrics
                ),
            )
            for group in self.groups
        )


def read_rows(
    tables: Mapping[str, pl.LazyFrame],
    training: Mapping[str, Any],
    *,
    label: str,
    metrics: list[Metric],
    slices: Slices,
    group: str | None = None,
) -> EvaluationRows:
    """Read the labels of the rows, and the groups of the test rows.

    Args:
        tables: the parts `train`, `validation` and `test`.
        training: training record with the task, the classes, and whether it is that of a refit.
        label: column of the labels.
        metrics: metrics to compute.
        slices: the columns of the groups.
        group: column whose equal values the split keeps together.

    Raises:
        DataError: a part has no rows, or lacks a column.
    """
    labels = {part: _column(table, label, part).to_list() for part, table in tables.items()}
    target = TargetSchema.of(training, [*labels["validation"], *labels["test"]])
    parts = {
        name: Part(name, table, encode_labels(target, labels[name]), _clusters(table, group, name))
        for name, table in tables.items()
    }
    train, validation, test = (parts[name] for name in ("train", "validation", "test"))
    groups, refit = _groups(tables["test"], slices), training["split"]["refit"]
    return EvaluationRows(target, metrics, train, validation, test, groups, refit)


def _clusters(table: pl.LazyFrame, group: str | None, part: str) -> Array | None:
    """Number the groups of the rows, by their canonical texts. Training rows need none."""
    if group is None or part == "train":
        return None
    values = _column(table, group, part).to_frame()
    texts = values.select(canonical_key("values", values.schema["values"])).to_series()
    return np.unique(texts.fill_null("").to_numpy(), return_inverse=True)[1]


def _column(table: pl.LazyFrame, name: str, part: str) -> pl.Series:
    columns = table.collect_schema().names()
    if name not in columns:
        raise missing_column_error(name, "column", columns, where=f"the {part} rows")
    values = table.select(column(name).alias("values")).collect()["values"]
    if values.is_empty():
        raise DataError(f"there are no {part} rows", expected="at least one", fix=f"raise split.{part}, or add rows")
    return values


def _groups(test: pl.LazyFrame, slices: Slices) -> list[Group]:
    """Every group of rows that is large enough, in the order of its level."""
    groups = []
    for name in slices.columns:
        table = pl.DataFrame({"level": _column(test, name, "test")}).with_row_index("row")
        large = table.filter(pl.len().over("level") >= slices.min_rows).group_by("level")
        of_column = [Group(name, level, rows["row"].to_numpy()) for (level,), rows in large]
        groups += sorted(of_column, key=lambda group: str(group.level))
    return groups


def _json_level(value: Any) -> JsonValue:
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)
