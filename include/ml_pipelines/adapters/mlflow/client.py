"""One MLflow server, or database: its client, its addresses for people, and its errors as this package's.

Nothing of MLflow's process-wide state (active run, tracking URI) is read or changed.
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

_Found = TypeVar("_Found")

__all__ = ["MlflowServer", "all_pages", "first_or_create", "retry_on_conflict"]

# Used where the environment says nothing. MLflow's own seven retries keep a task waiting for minutes when the server
# is down; the scheduler's retries are better at that.
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
_CONFLICT = re.compile(r"IntegrityError|UniqueViolation")  # as the databases' drivers call it
_CONFLICTS = 5  # more than there are kinds of rows that one call writes

_DOWN = (
    ServiceUnavailable,
    "MLflow does not answer, or answers with a fault of its own",
    "see that it runs and can be reached from this machine, then try again",
)
_GONE = (
    RegistryError,
    "MLflow has no such model, version or run",
    "look in MLflow for what was deleted; running the pipeline again makes a new one",
)
_DENIED = (
    PipelineError,
    "MLflow refuses access",
    "give credentials that may write: in the connection, or as MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD or"
    " MLFLOW_TRACKING_TOKEN; if the text speaks of the Host header, start the server with this host in --allowed-hosts",
)
_OTHER = (PipelineError, "MLflow does not accept a request", "mend what the text names, then run the task again")
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
    """Where trainings and models are kept.

    Args:
        tracking_uri: `http(s)://...`, or an SQLAlchemy URL of the database itself. May hold credentials.
        ui_url: the server's address for people's browsers, if that is another one.
        variables: MLflow's environment variables while it is spoken to: user, password, token, certificates.
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
        """The client; errors that leave the block are this package's, without credentials.

        Raises:
            ServiceUnavailable: MLflow can't be reached or fails.
            RegistryError: MLflow has not got what was asked for.
            MissingExtra: MLflow is not installed.
            PipelineError: MLflow refuses.
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
            # A traceback prints the cause as well, so a cause that shows a password stays out of it.
            raise self._translated(exc, text) from (exc if text == str(exc) else None)

    def _translated(self, exc: Exception, text: str) -> PipelineError:
        kind, what, fix = _ERRORS.get(_code(exc), _OTHER)
        got = f"{type(exc).__name__}: {' '.join(text.split())}"
        return kind(what, where=self.where, got=got[:_LONGEST_TEXT], fix=fix)

    def page(self, *parts: str) -> str | None:
        """Address of a page of the web interface, None if there is no server to show it."""
        if not self.ui_url:
            return None
        return f"{self.ui_url.rstrip('/')}/#/{'/'.join(quote(part, safe='') for part in parts)}"

    def artifact_location(self, experiment: str) -> str | None:
        """Where an experiment that is made now keeps its files; None leaves it to MLflow.

        MLflow would put the files of an SQLite database under the working directory; they belong beside it.
        """
        if not self.uri.startswith(_SQLITE):
            return None
        database = Path(self.uri.removeprefix(_SQLITE).partition("?")[0]).absolute()
        return (database.parent / "mlflow-artifacts" / experiment).as_uri()


def _import_mlflow() -> None:
    """MLflow is imported here, and not earlier: it takes seconds."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    import_object("mlflow:MlflowClient")


@lru_cache(maxsize=8)
def _client(uri: str) -> MlflowClient:
    from mlflow import MlflowClient

    with _alone_with(uri):
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        if uri.startswith(_SQLITE):
            client.search_experiments(max_results=1)
            client.search_registered_models(max_results=1)
    return client


@contextmanager
def _alone_with(uri: str) -> Iterator[None]:
    """Nobody else on this machine opens the SQLite database meanwhile.

    Whoever is the first to use a new one makes its tables. If two do, MLflow fails in one of them.
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
    """MLflow's code for an error, whichever library it comes from."""
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
    """All results of a search that takes a page token."""
    page = search(None)
    found = list(page)
    while page.token:
        page = search(page.token)
        found.extend(page)
    return found


def retry_on_conflict(call: Callable[[], _Found]) -> _Found:
    """The result of what may be repeated, done again while another process is faster.

    MLflow looks whether a row is there, then inserts it. Tasks side by side that log the same data set may both see
    none; one insert fails, and at the second look the row is there. Each repetition gets at least one row further.
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
    find: Callable[[], list[_Found]],
    create: Callable[[], _Found],
    delete: Callable[[_Found], Any],
    *,
    key: Callable[[_Found], Any],
) -> _Found:
    """The first of what is there, or a new one, also if two processes do this at once.

    MLflow has no unique tags, so both may create; then both see both, and the later one gives way.

    Args:
        find: what there is, oldest first.
        create: makes one.
        delete: removes it again.
        key: what tells them apart.
    """
    if found := find():
        return found[0]
    made = create()
    first = next(iter(find()), made)
    if key(first) != key(made):
        delete(made)
    return first
