"""The table of metrics that a gate may name.

A metric is one row: a :class:`Metric`. Rows of other packages come from the entry-point group
:data:`ENTRY_POINT_GROUP`; each entry point refers to a `Metric` or to an iterable of them. They are loaded only when a
name is not in :data:`METRICS`. This module imports no numerical library, because it is read while a DAG file is parsed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any, Literal

from ml_pipelines._utils.entry_points import find_entry_points, load_entry_point
from ml_pipelines.errors import ExtensionError, SpecError
from ml_pipelines.spec.custom_metric import CustomMetric

__all__ = [
    "ENTRY_POINT_GROUP",
    "METRICS",
    "Metric",
    "ScorerInput",
    "Task",
    "distributions_of",
    "find_metric",
    "get_metric",
    "metrics_of",
]

ENTRY_POINT_GROUP = "ml_pipelines.metrics"

Task = Literal["classification", "regression"]
ScorerInput = Literal["labels", "probabilities", "values", "confusion", "ranking"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric.

    Attributes:
        name: the name that a declaration uses; scikit-learn's where it has one.
        label: the name that reports show.
        task: the kind of model that it judges.
        scorer: import path of its function, as `module:function`. It returns a float, or None or NaN where the rows do
            not define the metric.
        needs: the arguments of the scorer.
            `labels`: true and predicted labels as integers, shape (rows,) each; 1 is the positive label of two.
            `probabilities`: true labels, and the probability of the positive label, shape (rows,), or of every label,
            shape (rows, labels).
            `values`: true and predicted numbers, shape (rows,) each.
            `confusion`: the confusion matrix, shape (labels, labels), and whether one of two labels is positive.
            `ranking`: whether each row is positive, and its score, from the highest score down. With more than two
            labels the metric is the mean over the labels, each against the rest.
        greater_is_better: False for errors and losses.
        best_value: the value of a perfect model; None if there is no bound.
        binary_only: the metric needs exactly two labels.
        resampling: how the bootstrap computes it. `generic` calls the scorer on the rows of each resample. The faster
            schemes `confusion`, `ranking`, `row_sums` and `median` need a `statistic`. A scheme of another package is
            an import path, see :data:`ml_pipelines.evaluation.resampling_schemes.Resampler`.
        statistic: import path of the object that the scheme computes from.
        dummy: the best constant prediction on the training rows, see :mod:`ml_pipelines.evaluation.dummy`: `mean`,
            `median`, `shortest_half`, `shares`, `label` or the import path of a function. With `search` the scorer
            chooses among several constants.
    """

    name: str
    label: str
    task: Task
    scorer: str
    needs: ScorerInput
    greater_is_better: bool = True
    best_value: float | None = None
    binary_only: bool = False
    resampling: str = "generic"
    statistic: str | None = None
    dummy: str = "search"


def _ranking(name: str, label: str) -> Metric:
    return Metric(
        name=name,
        label=label,
        task="classification",
        scorer=f"ml_pipelines.evaluation.scorers:{name}",
        needs="ranking",
        best_value=1.0,
        resampling="ranking",
        statistic=f"ml_pipelines.evaluation.ranking_metrics:{name.upper()}",
        dummy="shares",
    )


def _confusion(name: str, label: str) -> Metric:
    return Metric(
        name=name,
        label=label,
        task="classification",
        scorer=f"ml_pipelines.evaluation.scorers:{name}",
        needs="confusion",
        best_value=1.0,
        resampling="confusion",
        statistic=f"ml_pipelines.evaluation.confusion_metrics:{name}",
        dummy="label",
    )


def _loss(name: str, label: str, *, binary_only: bool = False) -> Metric:
    return Metric(
        name=name,
        label=label,
        task="classification",
        scorer=f"ml_pipelines.evaluation.scorers:{name}",
        needs="probabilities",
        greater_is_better=False,
        best_value=0.0,
        binary_only=binary_only,
        resampling="row_sums",
        statistic=f"ml_pipelines.evaluation.row_sum_metrics:{name.upper()}",
        dummy="shares",
    )


def _regression(name: str, label: str, *, dummy: str = "mean", greater_is_better: bool = False) -> Metric:
    return Metric(
        name=name,
        label=label,
        task="regression",
        scorer=f"ml_pipelines.evaluation.scorers:{name}",
        needs="values",
        greater_is_better=greater_is_better,
        best_value=1.0 if greater_is_better else 0.0,
        resampling="row_sums",
        statistic=f"ml_pipelines.evaluation.row_sum_metrics:{name.upper()}",
        dummy=dummy,
    )


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _ranking("roc_auc", "ROC-AUC"),
        _ranking("average_precision", "Average precision"),
        _confusion("accuracy", "Accuracy"),
        _confusion("balanced_accuracy", "Balanced accuracy"),
        _confusion("f1", "F1"),
        _confusion("precision", "Precision"),
        _confusion("recall", "Recall"),
        _loss("log_loss", "Log loss"),
        _loss("brier", "Brier score", binary_only=True),
        _regression("r2", "R²", greater_is_better=True),
        _regression("rmse", "Root mean squared error"),
        _regression("mae", "Mean absolute error", dummy="median"),
        Metric(
            name="median_ae",
            label="Median absolute error",
            task="regression",
            scorer="ml_pipelines.evaluation.scorers:median_ae",
            needs="values",
            greater_is_better=False,
            best_value=0.0,
            resampling="median",
            statistic="ml_pipelines.evaluation.row_sum_metrics:absolute_errors",
            dummy="shortest_half",
        ),
    )
}
"""The metrics of this package, by name, in the order of reports."""


def find_metric(name: str) -> Metric | None:
    """Return the metric of this name, or None if neither this package nor an installed one has it.

    Raises:
        ExtensionError: an installed package's metrics can't be loaded.
    """
    if (metric := METRICS.get(name)) is not None:
        return metric
    if (custom := CustomMetric.of_name(name)) is not None:
        return _custom(custom)
    metric, _ = _installed().get(name, (None, ""))
    return metric


def _custom(metric: CustomMetric) -> Metric:
    return Metric(
        name=metric.name,
        label=metric.function.partition(":")[2].replace("_", " ").capitalize(),
        task="regression" if metric.needs == "values" else "classification",
        scorer=metric.function,
        needs=metric.needs,
        greater_is_better=metric.better == "higher",
    )


def get_metric(name: str) -> Metric:
    """Return the metric of this name.

    Raises:
        SpecError: no such metric.
        ExtensionError: an installed package's metrics can't be loaded.
    """
    if (metric := find_metric(name)) is None:
        raise SpecError(
            f"metric {name!r} is unknown",
            expected=f"one of {', '.join(METRICS)}, or a metric of an installed package",
            got=repr(name),
            fix=f"correct the name, or install the package that declares it under {ENTRY_POINT_GROUP!r}",
        )
    return metric


def metrics_of(task: Task, names: Iterable[str] = ()) -> list[Metric]:
    """Return this package's metrics for a task, in the order of reports, then other metrics of these names.

    Raises:
        SpecError: no metric of one of the names.
    """
    own = [metric for metric in METRICS.values() if metric.task == task]
    return own + [get_metric(name) for name in dict.fromkeys(names) if name not in METRICS]


def distributions_of(names: Iterable[str]) -> dict[str, str]:
    """Return `distribution==version` by name of each metric that another package declares."""
    installed = _installed() if (others := [name for name in names if name not in METRICS]) else {}
    return {name: installed[name][1] for name in sorted(others) if name in installed}


def _installed() -> dict[str, tuple[Metric, str]]:
    """Metrics of installed packages, and their distributions."""
    metrics: dict[str, tuple[Metric, str]] = {}
    for name, entry in find_entry_points(ENTRY_POINT_GROUP).items():
        distribution = f"{entry.dist.name}=={entry.dist.version}" if entry.dist else entry.value
        for metric in _rows(entry, load_entry_point(ENTRY_POINT_GROUP, name)):
            if metric.name in METRICS or metric.name in metrics:
                raise _extension_error(entry, f"metric {metric.name!r} is declared twice", "a name of its own")
            metrics[metric.name] = metric, distribution
    return metrics


def _rows(entry: EntryPoint, declared: Any) -> list[Metric]:
    rows = [declared] if isinstance(declared, Metric) else list(declared) if isinstance(declared, Iterable) else []
    if not rows or not all(isinstance(row, Metric) for row in rows):
        what = f"entry point {entry.name!r} declares no metric"
        raise _extension_error(entry, what, "an ml_pipelines.spec.metric_table.Metric, or an iterable of them")
    return rows


def _extension_error(entry: EntryPoint, what: str, expected: str) -> ExtensionError:
    return ExtensionError(
        what,
        where=f"entry point group {ENTRY_POINT_GROUP}",
        expected=expected,
        got=entry.value,
        fix="correct or uninstall the package that declares it",
    )
