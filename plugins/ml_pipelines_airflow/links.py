"""Links on a task to the MLflow run, the model version or the report.

A task pushes the address of a link as an XCom under the link's key, and shows no link without one. The DAG builders set
the links on single tasks: a link that a plugin adds to PythonOperator would appear on the tasks of all DAGs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

__all__ = ["REPORT_ROUTE", "MlflowRunLink", "ModelVersionLink", "ReportLink", "link_urls", "operator_links"]

REPORT_ROUTE = "ml-report"
"""Path of the report in the tabs of a run."""


class _XComLink(BaseOperatorLink):
    """A link whose address the task pushes as an XCom."""

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Return the address, or an empty text without one.

        Airflow calls this in the task process after the task and stores the address for the web server. There, the
        argument `ti_key` is the task instance.
        """
        index = ti_key.map_index
        mapped = {} if index is None or index < 0 else {"map_indexes": index}
        return str(ti_key.xcom_pull(task_ids=ti_key.task_id, key=self.xcom_key, **mapped) or "")


class MlflowRunLink(_XComLink):
    """The MLflow run of a training."""

    name = "MLflow run"
    xcom_key = "mlflow_run_url"


class ModelVersionLink(_XComLink):
    """The version in the model registry."""

    name = "Model version"
    xcom_key = "model_version_url"


class ReportLink(_XComLink):
    """The report on the page of the run in Airflow, available after the end of the run."""

    name = "Report"
    xcom_key = "report_url"


_LINKS: dict[str, _XComLink] = {
    "train": MlflowRunLink(),
    "evaluate": ReportLink(),
    "decide": ReportLink(),
    "measure_drift": ReportLink(),
    "register": ModelVersionLink(),
    "deploy": ModelVersionLink(),
    "record_decision": ReportLink(),
}


def operator_links(*steps: str) -> tuple[BaseOperatorLink, ...]:
    """Return the links of a task that runs these steps, each once."""
    links = {link.name: link for step in steps if (link := _LINKS.get(step))}
    return tuple(links.values())


def link_urls(
    step: str, values: dict[str, Any], earlier: Callable[[str], Any], run_url: str | None = None
) -> dict[str, str]:
    """Return the addresses that the task of a step pushes, by XCom key.

    Args:
        step: name of the step.
        values: values of its result.
        earlier: returns the values of an earlier step, None if it was skipped.
        run_url: page of the run in Airflow.
    """
    if step not in _LINKS:
        return {}
    match step:
        case "train":
            url = values.get("tracking_url")
        case "register":
            url = values.get("url")
        case "deploy":
            url = (earlier("register") or {}).get("url")
        case _:
            url = f"{run_url}/plugin/{REPORT_ROUTE}" if run_url else None
    return {_LINKS[step].xcom_key: str(url)} if url else {}
