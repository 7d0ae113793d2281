"""Build the DAG that records a champion that was changed outside the pipelines, for example in MLflow's UI."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, AssetAlias, DeltaTriggerTimetable

from ml_pipelines_airflow.dag_builders.common import RETRY_POLICY, START
from ml_pipelines_airflow.operators.models import WatchRegistryOperator

__all__ = ["registry_watch_dag"]

_DOCUMENT = """Compares the registry's alias `champion` of every model in the ledger with the model's last ledger entry.

For each champion that was changed outside the pipelines, the ledger gets one entry *external_change*. The model's asset
gets an event, which starts the DAGs that are scheduled on the model.
"""


def registry_watch_dag(dag_id: str = "ml_registry_watch", every: timedelta = timedelta(minutes=10)) -> DAG:
    """Return the DAG.

    Args:
        dag_id: id of the DAG.
        every: interval of its runs.
    """
    with DAG(
        dag_id=dag_id,
        description="Record champions that were changed outside the pipelines.",
        doc_md=_DOCUMENT,
        schedule=DeltaTriggerTimetable(every),
        start_date=START,
        catchup=False,
        max_active_runs=1,
        default_args={"retries": 0, "retry_policy": RETRY_POLICY},
        tags={"ml", "operations"},
    ) as dag:
        WatchRegistryOperator(task_id="check_registry", outlets=[AssetAlias(f"{dag_id}.model")])
    return dag
