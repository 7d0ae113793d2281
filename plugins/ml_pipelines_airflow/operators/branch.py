"""A branch operator that skips all tasks of the branches not taken at once.

`BranchPythonOperator` skips only the tasks directly downstream. The scheduler skips the others one after the other, a
scheduler loop each; `airflow dags test` waits a second per loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.python import BranchPythonOperator
from airflow.sdk import TriggerRule
from airflow.sdk.exceptions import DownstreamTasksSkipped

if TYPE_CHECKING:
    from airflow.sdk import DAG, Context

__all__ = ["TransitiveBranchPythonOperator", "transitively_skipped"]

# A task with one of these rules is skipped if all its upstream tasks are. With another rule it may still run, which
# the scheduler decides.
_SKIPPING_RULES = frozenset({TriggerRule.ALL_SUCCESS, TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS})


class TransitiveBranchPythonOperator(BranchPythonOperator):
    """A `BranchPythonOperator` that skips the branches not taken to their end.

    Every task ends in the same state as with `BranchPythonOperator`.
    """

    def execute(self, context: Context) -> Any:
        """Call the function and skip the branches that it did not return.

        Raises:
            DownstreamTasksSkipped: lists the tasks that Airflow skips.
        """
        try:
            return super().execute(context)
        except DownstreamTasksSkipped as skipped:
            task_ids = transitively_skipped(context["dag"], [task_id for task_id, _ in skipped.tasks])
            skipped.tasks = list(_instances(task_ids, context))
            raise


def transitively_skipped(dag: DAG, task_ids: Iterable[str]) -> list[str]:
    """Return the given tasks, which are skipped, and the tasks that Airflow would skip after them.

    Args:
        dag: the DAG.
        task_ids: tasks directly downstream of a branch that it did not choose.
    """
    skipped = list(task_ids)
    for task_id in skipped:  # the loop also visits the tasks that it appends
        for task in dag.get_task(task_id).downstream_list:
            if (
                task.task_id not in skipped
                and task.trigger_rule in _SKIPPING_RULES
                and task.upstream_task_ids.issubset(skipped)
            ):
                skipped.append(task.task_id)
    return skipped


def _instances(task_ids: Iterable[str], context: Context) -> Iterator[tuple[str, int]]:
    """Yield task id and map index of each instance; index -1 is the instance of a task that is not mapped (yet)."""
    dag, ti = context["dag"], context["ti"]
    for task_id in task_ids:
        yield task_id, -1
        if dag.get_task(task_id).get_needs_expansion():
            count = ti.get_ti_count(dag_id=ti.dag_id, task_ids=[task_id], run_ids=[ti.run_id])
            yield from ((task_id, index) for index in range(count))
