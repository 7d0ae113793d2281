"""From a template and what it shows to a page."""

from __future__ import annotations

from functools import cache
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from ml_pipelines.contracts import LedgerEntry
from ml_pipelines.reporting import formatting as words
from ml_pipelines.reporting import plots

__all__ = ["page"]


def page(request: Request, template: str, status: int = 200, **shown: Any) -> HTMLResponse:
    """Fill a template.

    Args:
        request: tells under which path this application and Airflow are found.
        template: name of a file in `templates/`.
        status: of the answer.
        shown: what the template names.
    """
    root = str(request.scope.get("root_path", "")).rstrip("/")

    def url(path: str, **query: Any) -> str:
        told = {name: value for name, value in query.items() if value is not None}
        return f"{root}{path}{'?' + urlencode(told) if told else ''}"

    def run_page(entry: LedgerEntry) -> str:
        """Airflow's own page about a run; beside this application, wherever Airflow is mounted."""
        airflow, _, _ = root.rpartition("/")
        return f"{airflow}/dags/{quote(entry.pipeline, safe='')}/runs/{quote(entry.run_id, safe='')}"

    return HTMLResponse(_templates().get_template(template).render(url=url, run_page=run_page, **shown), status)


@cache
def _templates() -> Environment:
    made = Environment(
        loader=PackageLoader("ml_pipelines_airflow.ui"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(words=words, history=plots.history)
    made.filters.update(moment=_moment)
    return made


def _moment(told: str | None) -> str:
    """An ISO 8601 time to the minute."""
    return f"{told[:16].replace('T', ' ')} UTC" if told else words.NOTHING
