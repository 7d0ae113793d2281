"""Build the DAG that rolls a model back to an earlier version."""

from __future__ import annotations

from airflow.sdk import DAG, AssetAlias, Param

from ml_pipelines_airflow.dag_builders.common import RETRY_POLICY, START
from ml_pipelines_airflow.operators.models import RollbackModelOperator

__all__ = ["rollback_dag"]

_DOCUMENT = """Rolls a model back to an earlier version.

1. A separate process loads the version from the registry and must reproduce its predictions from the training.
2. The alias `previous` moves to the current champion and `champion` to the earlier version; both are read back.
3. The ledger gets an entry *rolled_back* with the reason.
4. The model's asset gets an event, which starts the DAGs that are scheduled on the model.

If a step fails, the current champion stays. A training that produces the version that was rolled back is held for
approval.
"""


def rollback_dag(dag_id: str = "ml_model_rollback") -> DAG:
    """Return the DAG, which has no schedule and a form for model, version and reason."""
    with DAG(
        dag_id=dag_id,
        description="Roll a model back to an earlier version.",
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
        "model": Param(None, type="string", pattern=r"\S", title="Model", description="Name in the registry."),
        "version": Param(
            "previous",
            type="string",
            pattern=r"^(previous|[0-9]+)$",
            title="Version",
            description="Number of the version, or `previous` for the champion before the current one.",
        ),
        "reason": Param(
            None, type="string", pattern=r"\S", title="Reason", description="Reason, recorded in the ledger."
        ),
    }
