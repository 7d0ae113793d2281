"""The web application behind the pages: what each address answers, to whom, and under which policy.

It is mounted by Airflow's api-server. Every address asks Airflow who the user is, and shows only what comes from DAGs
that the user may read.
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
from ml_pipelines.contracts import ArtifactRef, Identity, LedgerEntry
from ml_pipelines.errors import PipelineError, StoreError, TransientError
from ml_pipelines.ports import Services
from ml_pipelines.reporting.training_report import policy, style
from ml_pipelines.services.connected import ConnectedServices
from ml_pipelines_airflow.connections import airflow_settings
from ml_pipelines_airflow.ui import queries
from ml_pipelines_airflow.ui.pages import page

__all__ = ["app", "create_app"]

# The pages' own style and script, frames of our own pages, and nothing else.
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; frame-src 'self'; "
    "frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
)
# A report is made of what people and tables say: it is shown as if it came from nowhere, and may do nothing.
REPORT_POLICY = f"{policy()}; frame-ancestors 'self'; sandbox"
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
STATIC = {"style.css": "text/css", "frame.js": "text/javascript"}

Name = Annotated[str, Query(min_length=1, max_length=500, pattern="^[^\\x00]+$")]
Before = Annotated[int | None, Query(ge=1, le=2**53)]


def services() -> Services:
    """The systems that Airflow's configuration and connections name, as they are now."""
    return ConnectedServices(airflow_settings())


def readable(user: GetUserDep) -> set[str]:
    """The ids of the DAGs that the user may read."""
    return get_auth_manager().get_authorized_dag_ids(user=user, method="GET")


ServicesDep = Annotated[Services, Depends(services)]
ReadableDep = Annotated[set[str], Depends(readable)]


def create_app() -> FastAPI:
    """The application."""
    made = FastAPI(title="ML models", dependencies=[Depends(get_user)], openapi_url=None, docs_url=None, redoc_url=None)
    made.middleware("http")(_with_headers)
    made.exception_handler(PipelineError)(_on_trouble)
    for status in (401, 403, 404, 405):
        made.exception_handler(status)(_on_refusal)
    made.exception_handler(RequestValidationError)(_on_wrong_address)
    for path, answer in _PAGES.items():
        made.get(path, response_class=HTMLResponse)(answer)
    made.get("/static/{name}", response_class=Response)(static)
    return made


def models(request: Request, services: ServicesDep, readable: ReadableDep) -> HTMLResponse:
    """All models that the user may see."""
    return _models(request, services, readable)


def dag(request: Request, services: ServicesDep, readable: ReadableDep, dag_id: Name) -> HTMLResponse:
    """The models of one DAG; a single one is shown at once."""
    _check(dag_id, readable)
    found = queries.models_of(services.ledger, {dag_id})
    if len(found) == 1:
        return model(request, services, readable, found[0].model)
    return _models(request, services, {dag_id})


def model(
    request: Request, services: ServicesDep, readable: ReadableDep, model: Name, before: Before = None
) -> HTMLResponse:
    """One model: what serves, how it has done, and the decisions about it."""
    found = queries.model_page(services, model, readable, before=before)
    if found is None:
        raise HTTPException(404, f"There is no model {model!r} with a decision of a DAG that you may read.")
    return page(request, "model.html", found=found, before=before)


def run(request: Request, services: ServicesDep, readable: ReadableDep, dag_id: Name, run_id: Name) -> HTMLResponse:
    """One run: its decision, and its report in a frame."""
    if (ref := _stored_report(services, readable, dag_id, run_id)) is not None:
        return _shown(services, ref)
    entry = _entry(services, readable, dag_id, run_id)
    return page(request, "run.html", entry=entry, report=queries.report_of(entry))


def report(services: ServicesDep, readable: ReadableDep, dag_id: Name, run_id: Name) -> HTMLResponse:
    """A run's report as it was made, once its digest is checked."""
    ref = _stored_report(services, readable, dag_id, run_id)
    if ref is None:
        ref = queries.report_of(_entry(services, readable, dag_id, run_id))
    if ref is None:
        raise HTTPException(404, "This run has no report: it was recorded by an earlier version.")
    return _shown(services, ref)


def static(name: str) -> Response:
    """The style sheet, which is the report's and some more, and the script."""
    if name not in STATIC:
        raise HTTPException(404, "There is no such file.")
    own = (files("ml_pipelines_airflow.ui") / "static" / name).read_text(encoding="utf-8")
    whole = f"{style()}\n{own}" if name == "style.css" else own
    return Response(whole, media_type=STATIC[name])


_PAGES: dict[str, Callable[..., HTMLResponse]] = {
    "/": models,
    "/dag": dag,
    "/model": model,
    "/run": run,
    "/report": report,
}


def _models(request: Request, services: Services, of: set[str]) -> HTMLResponse:
    shown = page(request, "models.html", every=queries.models_of(services.ledger, of))
    # A model's own page asks MLflow, whose import takes seconds: it is on its way while this one is read.
    shown.background = later = BackgroundTasks()
    later.add_task(import_object, "mlflow:MlflowClient")
    return shown


def _check(dag_id: str, readable: set[str]) -> None:
    if dag_id not in readable:
        raise HTTPException(404, f"There is no DAG {dag_id!r} that you may read.")


def _stored_report(services: Services, readable: set[str], dag_id: str, run_id: str) -> ArtifactRef | None:
    """The report that a step of a run has made, such as that on drift; a training's is in the ledger."""
    _check(dag_id, readable)
    if services.ledger.entry(dag_id, run_id) is not None:
        return None
    records = services.tasks(Identity(pipeline=dag_id, run_id=run_id, task_id="report"))
    return next((ref for each in records for ref in each.result.outputs.values() if ref.kind == "html"), None)


def _shown(services: Services, ref: ArtifactRef) -> HTMLResponse:
    return HTMLResponse(services.read(ref), headers={"Content-Security-Policy": REPORT_POLICY})


def _entry(services: Services, readable: set[str], dag_id: str, run_id: str) -> LedgerEntry:
    _check(dag_id, readable)
    entry = services.ledger.entry(dag_id, run_id)
    if entry is None:
        raise HTTPException(404, "Nothing is decided yet: a run has a report once its last task has ended.")
    return entry


async def _with_headers(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await answer(request)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _on_trouble(request: Request, exc: Exception) -> Response:
    """A system that does not answer, or something that is gone."""
    assert isinstance(exc, PipelineError)
    status = 503 if isinstance(exc, TransientError) else 404 if isinstance(exc, StoreError) else 409
    facts = {"where": exc.where, "expected": exc.expected, "got": exc.got, "fix": exc.fix}
    return page(request, "message.html", status, title=exc.what, facts=facts)


def _on_refusal(request: Request, exc: Any) -> Response:
    made: Response = page(request, "message.html", exc.status_code, title=str(exc.detail), facts={})
    made.headers.update(exc.headers or {})
    return made


def _on_wrong_address(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)
    facts: dict[str, Any] = {str(each["loc"][-1]): each["msg"] for each in exc.errors()}
    return page(request, "message.html", 422, title="The address of this page is not complete.", facts=facts)


app = create_app()
