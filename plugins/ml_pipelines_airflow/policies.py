"""What Airflow asks us about every DAG file and every DAG, wherever it reads one.

Every process of Airflow loads this module, `airflow version` too: what the hooks need is imported when they are called.
"""

from __future__ import annotations

from typing import Any

from airflow.policies import hookimpl

__all__ = ["dag_policy", "get_dagbag_import_timeout"]


@hookimpl
def dag_policy(dag: Any) -> None:
    """Give a DAG whose tasks have an `sla` the deadlines that watch over it.

    Raises:
        AirflowClusterPolicyViolation: if an `sla` is not a valid duration; Airflow shows it as the file's import error.
    """
    from ml_pipelines_airflow.sla.argument import declared_slas

    if slas := declared_slas(dag):
        from ml_pipelines_airflow.sla.deadlines import install_deadlines

        install_deadlines(dag, slas)


@hookimpl(tryfirst=True)
def get_dagbag_import_timeout(dag_file_path: str) -> None:
    """Airflow asks this just before it runs a DAG file: the moment to silence what it would say of an `sla` there.

    The answer is left to whoever is asked next.
    """
    from ml_pipelines_airflow.sla.argument import ignore_removal_warning

    ignore_removal_warning()
