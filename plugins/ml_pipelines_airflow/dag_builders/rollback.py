"""The DAG that goes back to an earlier version of a model, with a form that asks which and why."""

from __future__ import annotations

from airflow.sdk import DAG, AssetAlias, Param

from ml_pipelines_airflow.dag_builders.common import RETRY_POLICY, START
from ml_pipelines_airflow.operators.models import RollbackModelOperator

__all__ = ["rollback_dag"]

_DOCUMENT = """Lets an earlier version of a model serve again.

1. The version is loaded from the registry by a process of its own, and has to predict what it did at training.
2. `previous` <- the version that served, `champion` <- the earlier one, and both are read back.
3. The ledger gets an entry *rolled_back* with the reason.
4. The model's asset gets an event, so that DAGs that wait for the model run.

If any of it fails, the old champion goes on serving. What was rolled back is not promoted again by itself: a training
that gives the same model asks a person first.
"""


def rollback_dag(dag_id: str = "ml_model_rollback") -> DAG:
    """The DAG, which is only started by hand."""
    with DAG(
        dag_id=dag_id,
        description="Let an earlier version of a model serve again.",
        doc_md=_DOCUMENT,
        schedule=None,
        start_date=START,
        max_active_runs=1,
        default_args={"retries": 2, "retry_policy": RETRY_POLICY},
        tags={"ml", "operations"},
    ) as dag:
        RollbackModelOperator(
            task_id="roll_back",
            model="{{ params.model }}",
            to="{{ params.version }}",
            reason="{{ params.reason }}",
            outlets=[AssetAlias(f"{dag_id}.model")],
        )
    dag.params.update(_form())
    return dag


def _form() -> dict[str, Param]:
    return {
        "model": Param(None, type="string", pattern=r"\S", title="Model", description="Its name in the registry."),
        "version": Param(
            "previous",
            type="string",
            pattern=r"^(previous|[0-9]+)$",
            title="Version",
            description="The version to go back to, or `previous` for the one that served before.",
        ),
        "reason": Param(None, type="string", pattern=r"\S", title="Reason", description="Why; the ledger keeps it."),
    }
