"""The argument `sla`, which Airflow 3 accepts and ignores: its declared values, and the warning about it.

A module of its own with few imports, as every DAG file imports it.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from ml_pipelines_airflow.config import enabled

if TYPE_CHECKING:
    from airflow.sdk import DAG

__all__ = ["declared_slas", "ignore_removal_warning"]

# The warning about a task. `DAG(sla_miss_callback=...)` has another text, and is still without effect.
REMOVAL_WARNING = "The SLA feature is removed in Airflow 3.0, replaced with Deadline Alerts in >=3.1"


def ignore_removal_warning() -> bool:
    """Ignore Airflow's warning about `sla` if this package implements it. Return whether it does."""
    active = enabled("sla_deadlines")
    if active:
        warnings.filterwarnings("ignore", message=REMOVAL_WARNING, category=UserWarning)
    return active


def declared_slas(dag: DAG) -> dict[str, Any]:
    """Return the `sla` of each task that declares one, on the task or in `default_args`.

    Airflow 3 keeps the value only among the arguments of the task's constructor.
    """
    slas = {}
    for task in dag.tasks:
        arguments = getattr(task, "partial_kwargs", None) or getattr(task, "_BaseOperator__init_kwargs", {})
        if arguments.get("sla") is not None:
            slas[task.task_id] = arguments["sla"]
    return slas
