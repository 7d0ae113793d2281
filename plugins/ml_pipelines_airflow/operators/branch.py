"""A branch that skips, in one go, all that only the ways not taken lead to.

Airflow's own skips what directly follows it. That what follows those is skipped as well, the scheduler finds out later,
task after task and a round each; `airflow dags test` waits for a second in each.
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

# By these a task is skipped once all before it are; with others it may run even then, and the scheduler decides.
_SKIPPED_AFTER_SKIPPED = frozenset({TriggerRule.ALL_SUCCESS, TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS})


class TransitiveBranchPythonOperator(BranchPythonOperator):
    """Airflow's, which skips to the end of the ways not taken; every task ends as it would have."""

    def execute(self, context: Context) -> Any:
        """Call the function, and skip what it did not choose.

        Raises:
            DownstreamTasksSkipped: tells Airflow what to skip.
        """
        try:
            return super().execute(context)
        except DownstreamTasksSkipped as direct:
            skipped = transitively_skipped(context["dag"], [task_id for task_id, _ in direct.tasks])
            direct.tasks = list(_instances(skipped, context))
            raise


def transitively_skipped(dag: DAG, task_ids: Iterable[str]) -> list[str]:
    """Tasks that are skipped, and those that Airflow would skip after them: all that is before these is skipped."""
    found = list(task_ids)
    for task_id in found:  # grows
        for task in dag.get_task(task_id).downstream_list:
            if (
                task.task_id not in found
                and task.trigger_rule in _SKIPPED_AFTER_SKIPPED
                and task.upstream_task_ids.issubset(found)
            ):
                found.append(task.task_id)
    return found


def _instances(task_ids: Iterable[str], context: Context) -> Iterator[tuple[str, int]]:
    """A task's instances: the one that is not mapped, or not yet, and as many as there are of a mapped one."""
    dag, ti = context["dag"], context["ti"]
    for task_id in task_ids:
        yield task_id, -1
        if dag.get_task(task_id).get_needs_expansion():
            count = ti.get_ti_count(dag_id=ti.dag_id, task_ids=[task_id], run_ids=[ti.run_id])
            yield from ((task_id, index) for index in range(count))
