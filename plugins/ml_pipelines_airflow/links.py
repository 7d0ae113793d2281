"""Buttons on a task that open the MLflow run, the model version or the report.

A link is the address that the task pushed as an XCom of the link's key; a task that pushed none shows none. They are
set on our own tasks, one by one: a link that a plugin gives to PythonOperator would appear on everybody's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

__all__ = ["REPORT_ROUTE", "MlflowRunLink", "ModelVersionLink", "ReportLink", "link_urls", "operator_links"]

REPORT_ROUTE = "ml-report"
"""Name of the report among the tabs of a run."""


class _PushedLink(BaseOperatorLink):
    """An address that the task has pushed."""

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """The address, empty if there is none.

        Airflow asks once the task has run and in its process, so what it calls a key is the task instance itself; and
        keeps the answer where the web server reads it.
        """
        index = ti_key.map_index
        where = {} if index is None or index < 0 else {"map_indexes": index}
        return str(ti_key.xcom_pull(task_ids=ti_key.task_id, key=self.xcom_key, **where) or "")


class MlflowRunLink(_PushedLink):
    """The run of a training."""

    name = "MLflow run"
    xcom_key = "mlflow_run_url"


class ModelVersionLink(_PushedLink):
    """A version in the model registry."""

    name = "Model version"
    xcom_key = "model_version_url"


class ReportLink(_PushedLink):
    """The run's report, on the run's page in Airflow; it is there once the run has ended."""

    name = "Report"
    xcom_key = "report_url"


_LINKS: dict[str, _PushedLink] = {
    "train": MlflowRunLink(),
    "evaluate": ReportLink(),
    "decide": ReportLink(),
    "measure_drift": ReportLink(),
    "register": ModelVersionLink(),
    "deploy": ModelVersionLink(),
    "record_decision": ReportLink(),
}


def operator_links(step: str) -> tuple[BaseOperatorLink, ...]:
    """What a step's task may link to."""
    return (_LINKS[step],) if step in _LINKS else ()


def link_urls(
    step: str, values: dict[str, Any], told: Callable[[str], Any], run_url: str | None = None
) -> dict[str, str]:
    """The addresses that a step's task has to push, by XCom key.

    Args:
        step: name in the catalog.
        values: of its result.
        told: gives the values of an earlier step; None if it was skipped.
        run_url: where the run is shown in Airflow's UI.
    """
    if step not in _LINKS:
        return {}
    match step:
        case "train":
            url = values.get("tracking_url")
        case "register":
            url = values.get("url")
        case "deploy":
            url = (told("register") or {}).get("url")
        case _:
            url = f"{run_url}/plugin/{REPORT_ROUTE}" if run_url else None
    return {_LINKS[step].xcom_key: str(url)} if url else {}
