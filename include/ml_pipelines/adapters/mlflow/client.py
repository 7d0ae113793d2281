"""Client of one MLflow server or database, addresses of its pages, and its errors as errors of this package.

MLflow's process-wide state (active run, tracking URI) is neither read nor changed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from ml_pipelines._utils.addresses import redact, redact_address, replace_secret
from ml_pipelines._utils.imports import import_object
from ml_pipelines.adapters.mlflow.credentials import mlflow_environment, split_tracking_uri
from ml_pipelines.adapters.mlflow.error_meaning import CONFLICT, error_meaning
from ml_pipelines.adapters.mlflow.sqlite_database import database_file, sqlite_database
from ml_pipelines.errors import PipelineError

if TYPE_CHECKING:
    from mlflow import MlflowClient

_Result = TypeVar("_Result")

__all__ = ["MlflowServer", "all_pages", "checked", "first_or_create", "retry_on_conflict"]

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
_SECRET = re.compile("PASSWORD|TOKEN")
_LONGEST_TEXT = 500
_CONFLICTS = 5  # more than there are kinds of rows that one call writes


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
        self.where = redact_address(tracking_uri)
        self.remote = self.uri.startswith(("http://", "https://"))
        self._address = tracking_uri
        self._secrets = [value for name, value in self.variables.items() if _SECRET.search(name)]
        self.ui_url = redact_address(ui_url) if ui_url else (self.where if self.remote else None)

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
        try:
            with mlflow_environment(self.variables):
                yield _client(self.uri)
        except PipelineError:
            raise
        except Exception as exc:  # an answer of another form fails anywhere in MLflow's client
            text = self._redacted(str(exc))
            # A traceback prints the cause too, so a cause with a password is dropped.
            raise self._translated(exc, text) from (exc if text == str(exc) else None)

    def _redacted(self, text: str) -> str:
        for secret in self._secrets:
            text = replace_secret(text, secret, "***")
        return redact(text, self._address)

    def _translated(self, exc: Exception, text: str) -> PipelineError:
        kind, what, fix = error_meaning(exc)
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
        database = database_file(self.uri)
        return (database.parent / "mlflow-artifacts" / experiment).as_uri() if database else None


def _import_mlflow() -> None:
    """Import MLflow on first use, since the import takes seconds."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    import_object("mlflow:MlflowClient")


@lru_cache(maxsize=8)
def _client(uri: str) -> MlflowClient:
    from mlflow import MlflowClient

    with sqlite_database(uri) as database:
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        if database:
            # The first calls write the first rows; with two processes at once, MLflow fails in one of them.
            client.search_experiments(max_results=1)
            client.search_registered_models(max_results=1)
    return client


def checked(result: _Result, **identity: Any) -> _Result:
    """Return an object of MLflow's client if it is the requested one.

    MLflow turns an answer such as `{}`, for example of a proxy, into an object whose fields are empty. Without this
    check it would mean "no champion".

    Raises:
        LookupError: it has another identity. :meth:`MlflowServer.client` converts it.
    """
    for name, value in identity.items():
        if not value or str(getattr(result, name, None)) != str(value):
            raise LookupError(f"expected {name} {value!r}, got {getattr(result, name, None)!r}")
    return result


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
            if not CONFLICT.search(str(exc)):
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
