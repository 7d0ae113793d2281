"""HTML pages from the templates."""

from __future__ import annotations

from functools import cache
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from ml_pipelines.ports.ledger_entry import LedgerEntry
from ml_pipelines.reporting import formatting
from ml_pipelines.reporting.plots import history_plot
from ml_pipelines.reporting.rendering import render_figure, render_findings, show_invisible_characters

__all__ = ["page"]


def page(request: Request, template: str, status: int = 200, **variables: Any) -> HTMLResponse:
    """Return the response of a template.

    Args:
        request: defines the paths of this application and of Airflow.
        template: name of a file in `templates/`.
        status: HTTP status.
        variables: variables of the template.
    """
    root = str(request.scope.get("root_path", "")).rstrip("/")

    def url(path: str, **query: Any) -> str:
        parameters = {name: value for name, value in query.items() if value is not None}
        return f"{root}{path}{'?' + urlencode(parameters) if parameters else ''}"

    def run_page(entry: LedgerEntry) -> str:
        """Return Airflow's page of a run. Airflow and this application have the same parent path."""
        airflow, _, _ = root.rpartition("/")
        return f"{airflow}/dags/{quote(entry.pipeline, safe='')}/runs/{quote(entry.run_id, safe='')}"

    return HTMLResponse(_templates().get_template(template).render(url=url, run_page=run_page, **variables), status)


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("ml_pipelines_airflow.ui"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=show_invisible_characters,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        OUTCOMES=formatting.OUTCOMES,
        history_plot=history_plot,
        metric_direction=formatting.metric_direction,
        metric_name=formatting.metric_name,
        outcome_tone=formatting.outcome_tone,
        render_figure=render_figure,
        render_findings=render_findings,
        fitted_rows_text=formatting.fitted_rows_text,
        threshold_text=formatting.threshold_text,
    )
    environment.filters.update(
        interval=formatting.format_interval,
        minute=_to_minute,
        number=formatting.format_number,
        threshold=formatting.format_threshold,
    )
    return environment


def _to_minute(time: str | None) -> str:
    """Return an ISO 8601 time without seconds."""
    return f"{time[:16].replace('T', ' ')} UTC" if time else formatting.NO_VALUE
