"""The metrics that a gate may name, with their directions. :mod:`ml_pipelines.evaluation.scorers` computes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["METRICS", "Metric", "Task", "metrics_of"]

Task = Literal["classification", "regression"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: as scikit-learn's scorers call it, where they know it.
        task: what kind of model it judges.
        greater_is_better: False for errors and losses.
        binary_only: needs exactly two classes.
    """

    name: str
    task: Task
    greater_is_better: bool = True
    binary_only: bool = False


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("roc_auc", "classification"),
        Metric("average_precision", "classification"),
        Metric("accuracy", "classification"),
        Metric("balanced_accuracy", "classification"),
        Metric("f1", "classification"),
        Metric("precision", "classification"),
        Metric("recall", "classification"),
        Metric("log_loss", "classification", greater_is_better=False),
        Metric("brier", "classification", greater_is_better=False, binary_only=True),
        Metric("r2", "regression"),
        Metric("rmse", "regression", greater_is_better=False),
        Metric("mae", "regression", greater_is_better=False),
        Metric("median_ae", "regression", greater_is_better=False),
    )
}


def metrics_of(task: Task) -> list[Metric]:
    """The metrics that judge models of a task, in the order in which they are shown."""
    return [metric for metric in METRICS.values() if metric.task == task]
