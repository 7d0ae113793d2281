"""The web application with the pages about models, mounted by Airflow's api-server.

Every page asks Airflow for the user, and shows only the results of DAGs that the user may read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.core_api.security import GetUserDep, get_user
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response

from ml_pipelines._utils.imports import import_object
from ml_pipelines.contracts import ArtifactRef, Identity
from ml_pipelines.errors import PipelineError, StoreError, TransientError
from ml_pipelines.ports import Services
from ml_pipelines.ports.ledger_entry import LedgerEntry
from ml_pipelines.reporting.rendering import content_security_policy, stylesheet
from ml_pipelines.services.connected import ConnectedServices
from ml_pipelines_airflow.connections import airflow_settings
from ml_pipelines_airflow.ui import queries
from ml_pipelines_airflow.ui.pages import page

__all__ = ["app", "create_app"]

# Allows the style sheet, the script and the frames of these pages only.
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; frame-src 'self'; "
    "frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
)
# A report contains texts of users and tables: `sandbox` gives it an origin of its own, without scripts and forms.
REPORT_POLICY = f"{content_security_policy()}; frame-ancestors 'self'; sandbox"
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
STATIC_FILES = {"style.css": "text/css", "frame.js": "text/javascript"}

Name = Annotated[str, Query(min_length=1, max_length=500, pattern="^[^\\x00]+$")]
Before = Annotated[int | None, Query(ge=1, le=2**53)]


def services() -> Services:
    """Return the services that Airflow's configuration and connections define."""
    return ConnectedServices(airflow_settings())


def readable(user: GetUserDep) -> set[str]:
    """Return the ids of the DAGs that the user may read."""
    return get_auth_manager().get_authorized_dag_ids(user=user, method="GET")


ServicesDep = Annotated[Services, Depends(services)]
ReadableDep = Annotated[set[str], Depends(readable)]


def create_app() -> FastAPI:
    """Return the application."""
    application = FastAPI(
        title="ML models", dependencies=[Depends(get_user)], openapi_url=None, docs_url=None, redoc_url=None
    )
    application.middleware("http")(_add_headers)
    application.exception_handler(PipelineError)(_pipeline_error_page)
    for status in (401, 403, 404, 405):
        application.exception_handler(status)(_http_error_page)
    application.exception_handler(RequestValidationError)(_invalid_address_page)
    for path, endpoint in _PAGES.items():
        application.get(path, response_class=HTMLResponse)(endpoint)
    application.get("/static/{name}", response_class=Response)(static)
    return application


def models(request: Request, services: ServicesDep, readable: ReadableDep) -> HTMLResponse:
    """Return the page of all models that the user may see."""
    return _models_page(request, services, readable)


def dag(request: Request, services: ServicesDep, readable: ReadableDep, dag_id: Name) -> HTMLResponse:
    """Return the page of a DAG's models, or of its only model."""
    _check_readable(dag_id, readable)
    summaries = queries.models_of(services.ledger, {dag_id})
    if len(summaries) == 1:
        return model(request, services, readable, summaries[0].model)
    return _models_page(request, services, {dag_id})


def model(
    request: Request, services: ServicesDep, readable: ReadableDep, model: Name, before: Before = None
) -> HTMLResponse:
    """Return the page of a model: deployed versions, history of the metric, and decisions."""
    summary = queries.model_page(services, model, readable, before=before)
    if summary is None:
        raise HTTPException(404, f"No DAG that you may read has a decision on a model {model!r}.")
    return page(request, "model.html", summary=summary, before=before)


def run(request: Request, services: ServicesDep, readable: ReadableDep, dag_id: Name, run_id: Name) -> HTMLResponse:
    """Return the page of a run: its decision, and its report in a frame."""
    if (ref := _step_report(services, readable, dag_id, run_id)) is not None:
        return _report_response(services, ref)
    entry = _entry(services, readable, dag_id, run_id)
    return page(request, "run.html", entry=entry, report=queries.report_of(entry))


def report(services: ServicesDep, readable: ReadableDep, dag_id: Name, run_id: Name) -> HTMLResponse:
    """Return the report of a run, after a check of its digest."""
    ref = _step_report(services, readable, dag_id, run_id)
    if ref is None:
        ref = queries.report_of(_entry(services, readable, dag_id, run_id))
    if ref is None:
        raise HTTPException(404, "This run has no report.")
    return _report_response(services, ref)


def static(name: str) -> Response:
    """Return the script, or the style sheet of the reports with that of the pages."""
    if name not in STATIC_FILES:
        raise HTTPException(404, "This file does not exist.")
    text = (files("ml_pipelines_airflow.ui") / "static" / name).read_text(encoding="utf-8")
    content = f"{stylesheet()}\n{text}" if name == "style.css" else text
    return Response(content, media_type=STATIC_FILES[name])


_PAGES: dict[str, Callable[..., HTMLResponse]] = {
    "/": models,
    "/dag": dag,
    "/model": model,
    "/run": run,
    "/report": report,
}


def _models_page(request: Request, services: Services, dag_ids: set[str]) -> HTMLResponse:
    response = page(request, "models.html", summaries=queries.models_of(services.ledger, dag_ids))
    # The page of a model needs MLflow, whose import takes seconds: import it while the user reads this page.
    response.background = tasks = BackgroundTasks()
    tasks.add_task(import_object, "mlflow:MlflowClient")
    return response


def _check_readable(dag_id: str, readable: set[str]) -> None:
    if dag_id not in readable:
        raise HTTPException(404, f"There is no DAG {dag_id!r} that you may read.")


def _step_report(services: Services, readable: set[str], dag_id: str, run_id: str) -> ArtifactRef | None:
    """Return the report that a step wrote, such as that on drift; the ledger refers to that of a training."""
    _check_readable(dag_id, readable)
    if services.ledger.entry(dag_id, run_id) is not None:
        return None
    records = services.tasks(Identity(pipeline=dag_id, run_id=run_id, task_id="report"))
    return next((ref for record in records for ref in record.result.outputs.values() if ref.kind == "html"), None)


def _report_response(services: Services, ref: ArtifactRef) -> HTMLResponse:
    return HTMLResponse(services.read(ref), headers={"Content-Security-Policy": REPORT_POLICY})


def _entry(services: Services, readable: set[str], dag_id: str, run_id: str) -> LedgerEntry:
    _check_readable(dag_id, readable)
    entry = services.ledger.entry(dag_id, run_id)
    if entry is None:
        raise HTTPException(404, "This run has no decision yet. Its report is available after its last task.")
    return entry


async def _add_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _pipeline_error_page(request: Request, exc: Exception) -> Response:
    """Return the page of a service that does not answer, or of a missing artifact."""
    assert isinstance(exc, PipelineError)
    status = 503 if isinstance(exc, TransientError) else 404 if isinstance(exc, StoreError) else 409
    facts = {"where": exc.where, "expected": exc.expected, "got": exc.got, "fix": exc.fix}
    return page(request, "message.html", status, title=exc.what, facts=facts)


def _http_error_page(request: Request, exc: Any) -> Response:
    response: Response = page(request, "message.html", exc.status_code, title=str(exc.detail), facts={})
    response.headers.update(exc.headers or {})
    return response


def _invalid_address_page(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)
    facts: dict[str, Any] = {str(error["loc"][-1]): error["msg"] for error in exc.errors()}
    return page(request, "message.html", 422, title="The address of this page is incomplete.", facts=facts)


app = create_app()
