"""The Airflow plugin. Airflow's processes import this module at their start, so it imports little."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from ml_pipelines_airflow.links import REPORT_ROUTE, MlflowRunLink, ModelVersionLink, ReportLink

__all__ = ["PREFIX", "MLPipelinesPlugin"]

PREFIX = "/ml-models"


class MLPipelinesPlugin(AirflowPlugin):
    """Register the links on tasks and the pages about models."""

    name = "ml_pipelines"
    operator_extra_links: Any = (MlflowRunLink(), ModelVersionLink(), ReportLink())

    @property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]  # read only by the api-server
        """The web application, imported on use, so that workers do not import it."""
        from ml_pipelines_airflow.ui.app import app

        return [{"app": app, "url_prefix": PREFIX, "name": "ML models"}]

    @property
    def external_views(self) -> list[dict[str, Any]]:  # type: ignore[override]  # reads the base URL late
        """The pages in Airflow's navigation, on a DAG and on a run."""
        root = f"{_base_path()}{PREFIX}"
        return [
            {
                "name": "ML models",
                "href": f"{root}/",
                "destination": "nav",
                "category": "browse",
                "url_route": "ml-models",
            },
            {
                "name": "ML models",
                "href": f"{root}/dag?dag_id={{DAG_ID}}",
                "destination": "dag",
                "url_route": "ml-models-of-dag",
            },
            {
                "name": "ML report",
                "href": f"{root}/run?dag_id={{DAG_ID}}&run_id={{RUN_ID}}",
                "destination": "dag_run",
                "url_route": REPORT_ROUTE,
            },
        ]


def _base_path() -> str:
    """Return the path of Airflow's base URL, which a proxy may set; mostly empty."""
    from urllib.parse import urlsplit

    from airflow.providers.common.compat.sdk import conf

    return urlsplit(str(conf.get("api", "base_url", fallback=""))).path.rstrip("/")
