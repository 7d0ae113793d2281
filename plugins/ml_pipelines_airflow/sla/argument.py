"""The argument `sla`, which Airflow 3 takes and drops: what was given for it, and the warning about it.

Apart from the rest, as every DAG file comes by here.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from ml_pipelines_airflow.config import enabled

if TYPE_CHECKING:
    from airflow.sdk import DAG

__all__ = ["declared_slas", "ignore_removal_warning"]

# Of a task; `DAG(sla_miss_callback=...)` has a text of its own, and still does nothing.
REMOVED = "The SLA feature is removed in Airflow 3.0, replaced with Deadline Alerts in >=3.1"


def ignore_removal_warning() -> bool:
    """Keep Airflow from saying of a task's `sla` that it does nothing, as long as we watch over it: do we?"""
    watching = enabled("sla_deadlines")
    if watching:
        warnings.filterwarnings("ignore", message=REMOVED, category=UserWarning)
    return watching


def declared_slas(dag: DAG) -> dict[str, Any]:
    """The `sla` of every task that has one, its own or by `default_args`.

    Airflow 3 drops the value and keeps only a record of what a task was made with; nowhere else we rely on that.
    """
    found = {}
    for task in dag.tasks:
        made_with = getattr(task, "partial_kwargs", None) or getattr(task, "_BaseOperator__init_kwargs", {})
        if made_with.get("sla") is not None:
            found[task.task_id] = made_with["sla"]
    return found
