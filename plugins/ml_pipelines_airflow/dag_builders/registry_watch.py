"""The DAG that notices when somebody moves a champion outside, in MLflow's pages say."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, AssetAlias, DeltaTriggerTimetable

from ml_pipelines_airflow.dag_builders.common import RETRY_POLICY, START
from ml_pipelines_airflow.operators.models import WatchRegistryOperator

__all__ = ["registry_watch_dag"]

_DOCUMENT = """Holds the registry's alias `champion` of every model in the ledger against the ledger's last word.

One that was moved outside gets an entry *external_change*, once, and the model's asset an event, so that DAGs that wait
for the model run.
"""


def registry_watch_dag(dag_id: str = "ml_registry_watch", every: timedelta = timedelta(minutes=10)) -> DAG:
    """The DAG.

    Args:
        dag_id: its name.
        every: from one look to the next.
    """
    with DAG(
        dag_id=dag_id,
        description="Notice a champion that was moved outside.",
        doc_md=_DOCUMENT,
        schedule=DeltaTriggerTimetable(every),
        start_date=START,
        catchup=False,
        max_active_runs=1,
        default_args={"retries": 0, "retry_policy": RETRY_POLICY},
        tags={"ml", "operations"},
    ) as dag:
        WatchRegistryOperator(task_id="look", outlets=[AssetAlias(f"{dag_id}.model")])
    return dag
