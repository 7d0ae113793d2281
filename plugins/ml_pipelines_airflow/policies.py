"""Cluster policies, which Airflow calls for every DAG file and every DAG.

Every process of Airflow imports this module, also `airflow version`. The policies therefore import on call.
"""

from __future__ import annotations

from typing import Any

from airflow.policies import hookimpl

__all__ = ["dag_policy", "get_dagbag_import_timeout"]


@hookimpl
def dag_policy(dag: Any) -> None:
    """Add deadlines to a DAG whose tasks have an `sla`.

    Raises:
        AirflowClusterPolicyViolation: an `sla` is not a valid duration. Airflow shows it as an import error of the
            file.
    """
    from ml_pipelines_airflow.sla.declared_sla import declared_slas

    if slas := declared_slas(dag):
        from ml_pipelines_airflow.sla.deadlines import install_deadlines

        install_deadlines(dag, slas)


@hookimpl(tryfirst=True)
def get_dagbag_import_timeout(dag_file_path: str) -> None:
    """Ignore Airflow's warning about `sla` arguments.

    Airflow calls this policy before it runs a DAG file, so the warning is ignored there. The policy returns None,
    which leaves the timeout to other policies.
    """
    from ml_pipelines_airflow.sla.declared_sla import ignore_removal_warning

    ignore_removal_warning()
