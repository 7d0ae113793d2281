"""Client of one MLflow server or database, addresses of its pages, and its errors as errors of this package.

MLflow's process-wide state (active run, tracking URI) is neither read nor changed.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from ml_pipelines._utils.imports import import_object
from ml_pipelines.adapters.addresses import redact
from ml_pipelines.adapters.mlflow.credentials import mlflow_environment, split_tracking_uri
from ml_pipelines.errors import PipelineError, RegistryError, ServiceUnavailable

if TYPE_CHECKING:
    from mlflow import MlflowClient

_Result = TypeVar("_Result")

__all__ = ["MlflowServer", "all_pages", "first_or_create", "retry_on_conflict"]

# Defaults for unset variables. MLflow's own seven retries would block a task for minutes while the server is down; the
# scheduler retries without a blocked worker.
_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_LONGEST_TEXT = 500
_SQLITE = "sqlite:///"
_CONFLICT = re.compile(r"IntegrityError|UniqueViolation")  # names of the error in the drivers of the databases
_CONFLICTS = 5  # more than there are kinds of rows that one call writes

_DOWN = (
    ServiceUnavailable,
    "MLflow does not answer, or has an internal error",
    "check that it runs and can be reached from this machine, then try again",
)
_GONE = (
    RegistryError,
    "MLflow has no such model, version or run",
    "restore what was deleted in MLflow, or run the pipeline again, which creates a new one",
)
_DENIED = (
    PipelineError,
    "MLflow refuses access",
    "give credentials that may write: in the connection, or as MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD or"
    " MLFLOW_TRACKING_TOKEN; if the text speaks of the Host header, start the server with this host in --allowed-hosts",
)
_OTHER = (PipelineError, "MLflow does not accept a request", "correct what the message names, then run the task again")
_NO_SERVER = (PipelineError, "there is no MLflow server at this address", "correct the tracking URI")

# MLflow's error codes, and which error each becomes. A code that is not listed is a refusal.
_ERRORS: dict[str, tuple[type[PipelineError], str, str]] = {
    "ABORTED": _DOWN,
    "CANCELLED": _DOWN,
    "DEADLINE_EXCEEDED": _DOWN,
    "INTERNAL_ERROR": _DOWN,
    "REQUEST_LIMIT_EXCEEDED": _DOWN,
    "RESOURCE_EXHAUSTED": _DOWN,
    "TEMPORARILY_UNAVAILABLE": _DOWN,
    "NOT_FOUND": _GONE,
    "RESOURCE_DOES_NOT_EXIST": _GONE,
    "CUSTOMER_UNAUTHORIZED": _DENIED,
    "PERMISSION_DENIED": _DENIED,
    "UNAUTHENTICATED": _DENIED,
    "ENDPOINT_NOT_FOUND": _NO_SERVER,
}


class MlflowServer:
    """The tracking server and model registry of MLflow.

    Args:
        tracking_uri: `http(s)://...`, or an SQLAlchemy URL of the database itself. May hold credentials.
        ui_url: address of the server for browsers, if it differs.
        variables: environment variables for MLflow: user, password, token, certificates.
    """

    def __init__(
        self, tracking_uri: str, *, ui_url: str | None = None, variables: Mapping[str, str] | None = None
    ) -> None:
        self.uri, own = split_tracking_uri(tracking_uri)
        self.variables = own | dict(variables or {})
        self.where = redact(tracking_uri)
        self.remote = tracking_uri.startswith(("http://", "https://"))
        self.ui_url = ui_url or (self.where if self.remote else None)

    @contextmanager
    def client(self) -> Iterator[MlflowClient]:
        """Return the client; MLflow's errors in the block become errors of this package without credentials.

        Raises:
            ServiceUnavailable: MLflow can't be reached or fails.
            RegistryError: MLflow has no such model, version or run.
            MissingExtra: MLflow is not installed.
            PipelineError: MLflow refuses the request.
        """
        _import_mlflow()
        from mlflow.exceptions import MlflowException
        from requests import RequestException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            with mlflow_environment(self.variables):
                yield _client(self.uri)
        except (MlflowException, RequestException, SQLAlchemyError, OSError) as exc:
            text = redact(str(exc))
            # A traceback prints the cause too, so a cause with a password is dropped.
            raise self._translated(exc, text) from (exc if text == str(exc) else None)

    def _translated(self, exc: Exception, text: str) -> PipelineError:
        kind, what, fix = _ERRORS.get(_code(exc), _OTHER)
        got = f"{type(exc).__name__}: {' '.join(text.split())}"
        return kind(what, where=self.where, got=got[:_LONGEST_TEXT], fix=fix)

    def page(self, *parts: str) -> str | None:
        """Return the address of a page of the web interface; None without a server."""
        if not self.ui_url:
            return None
        return f"{self.ui_url.rstrip('/')}/#/{'/'.join(quote(part, safe='') for part in parts)}"

    def artifact_location(self, experiment: str) -> str | None:
        """Return the folder for the files of a new experiment; None for MLflow's default.

        For an SQLite database the default is the working directory; the folder beside the database is better.
        """
        if not self.uri.startswith(_SQLITE):
            return None
        database = Path(self.uri.removeprefix(_SQLITE).partition("?")[0]).absolute()
        return (database.parent / "mlflow-artifacts" / experiment).as_uri()


def _import_mlflow() -> None:
    """Import MLflow on first use, since the import takes seconds."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    import_object("mlflow:MlflowClient")


@lru_cache(maxsize=8)
def _client(uri: str) -> MlflowClient:
    from mlflow import MlflowClient

    with _exclusive(uri):
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        if uri.startswith(_SQLITE):
            client.search_experiments(max_results=1)
            client.search_registered_models(max_results=1)
    return client


@contextmanager
def _exclusive(uri: str) -> Iterator[None]:
    """Lock the SQLite database on this machine within the block.

    The first client of a new database creates its tables. With two at once, MLflow fails in one of them.
    """
    folder = Path(uri.removeprefix(_SQLITE).partition("?")[0]).absolute().parent
    if not uri.startswith(_SQLITE) or not folder.is_dir():
        yield
        return
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _code(exc: Exception) -> str:
    """Return MLflow's code for an error of MLflow, requests or SQLAlchemy."""
    from mlflow.exceptions import MlflowException, get_error_code
    from mlflow.protos.databricks_pb2 import ErrorCode
    from requests import HTTPError
    from sqlalchemy.exc import SQLAlchemyError

    if isinstance(exc, MlflowException):
        return "ABORTED" if _CONFLICT.search(str(exc)) else str(exc.error_code)
    if isinstance(exc, HTTPError) and exc.response is not None:
        return str(ErrorCode.Name(get_error_code(exc.response.status_code)))  # type: ignore[no-untyped-call]
    if isinstance(exc, SQLAlchemyError) and not hasattr(exc, "orig"):
        return "INVALID_PARAMETER_VALUE"
    return "TEMPORARILY_UNAVAILABLE"


def all_pages(search: Callable[[str | None], Any]) -> list[Any]:
    """Return all results of a search with page tokens."""
    page = search(None)
    results = list(page)
    while page.token:
        page = search(page.token)
        results.extend(page)
    return results


def retry_on_conflict(call: Callable[[], _Result]) -> _Result:
    """Call an idempotent function again after a conflict with another process.

    MLflow looks for a row, then inserts it. Parallel tasks that log the same data set may both find none, and one
    insert fails. The next call finds the row, so each repetition gets at least one row further.
    """
    from mlflow.exceptions import MlflowException

    for _ in range(_CONFLICTS):
        try:
            return call()
        except MlflowException as exc:
            if not _CONFLICT.search(str(exc)):
                raise
    return call()


def first_or_create(
    find: Callable[[], list[_Result]],
    create: Callable[[], _Result],
    delete: Callable[[_Result], Any],
    *,
    key: Callable[[_Result], Any],
) -> _Result:
    """Return the first existing object, or create one; safe for two processes at once.

    MLflow has no unique tags, so two processes may both create one. Then both find both, and the later one is deleted.

    Args:
        find: returns the existing objects, oldest first.
        create: creates an object.
        delete: deletes an object.
        key: returns the identity of an object.
    """
    if existing := find():
        return existing[0]
    created = create()
    first = next(iter(find()), created)
    if key(first) != key(created):
        delete(created)
    return first
