"""What an error of MLflow's client means: the error of this package, its sentence and its fix.

MLflow's own code decides where it is more exact than an HTTP status. The classifiers for databases, HTTP and files
decide all else.
"""

from __future__ import annotations

import re

from ml_pipelines._utils.error_kinds import ErrorKind, kind_of_error, kind_of_status
from ml_pipelines.adapters.sql.error_kinds import kind_of_database_error
from ml_pipelines.errors import PipelineError, RegistryError, ServiceUnavailable, StoreUnavailable

__all__ = ["CONFLICT", "error_meaning"]

CONFLICT = re.compile(r"IntegrityError|UniqueViolation")
"""Names of the error of a second writer in the drivers of the databases."""

_Meaning = tuple[type[PipelineError], str, str]

_DOWN: _Meaning = (
    ServiceUnavailable,
    "MLflow does not answer, or has an internal error",
    "check that it runs and can be reached from this machine, then try again",
)
_GONE: _Meaning = (
    RegistryError,
    "MLflow has no such model, version or run",
    "restore what was deleted in MLflow, or run the pipeline again, which creates a new one",
)
_DENIED: _Meaning = (
    PipelineError,
    "MLflow refuses access",
    "give credentials that may write: in the connection, or as MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD or"
    " MLFLOW_TRACKING_TOKEN; if the text speaks of the Host header, start the server with this host in --allowed-hosts",
)
_OTHER: _Meaning = (
    PipelineError,
    "MLflow does not accept a request",
    "correct what the message names, then run the task again",
)
_NO_SERVER: _Meaning = (PipelineError, "there is no MLflow server at this address", "correct the tracking URI")

_DISK: _Meaning = (
    StoreUnavailable,
    "a temporary file for MLflow can't be written",
    "free space in the folder for temporary files (TMPDIR) and beside MLflow's database, then try again",
)
_UNEXPECTED: _Meaning = (
    ServiceUnavailable,
    "MLflow answers with something else than its API returns",
    "check that the tracking URI leads to MLflow itself, not to the login or error page of a proxy, then try again",
)

_KINDS = {
    ErrorKind.MISSING: _GONE,
    ErrorKind.DENIED: _DENIED,
    ErrorKind.READ_ONLY: _DISK,
    ErrorKind.INVALID: _OTHER,
    ErrorKind.DAMAGED: _OTHER,
    ErrorKind.FULL: _DISK,
    ErrorKind.UNAVAILABLE: _DOWN,
}
_DATABASE_DENIED: _Meaning = (
    PipelineError,
    "MLflow's database refuses access",
    "give a user that may write to it, or the right to write to its file and folder",
)
_DATABASE_KINDS = {
    ErrorKind.DENIED: _DATABASE_DENIED,
    ErrorKind.READ_ONLY: _DATABASE_DENIED,
    ErrorKind.FULL: _DISK,
    ErrorKind.UNAVAILABLE: _DOWN,
}
# Texts of errors that MLflow itself calls internal.
_TEXTS: tuple[tuple[str, _Meaning], ...] = (
    (CONFLICT.pattern, _DOWN),
    ("not in a valid JSON format", _UNEXPECTED),
    ("CERTIFICATE_VERIFY_FAILED|out-of-date database schema", _OTHER),
)
# Codes of MLflow that mean more than their HTTP status. A code without a status is a refusal.
_CODES = {
    "ABORTED": _DOWN,
    "ALREADY_EXISTS": _OTHER,
    "CANCELLED": _DOWN,
    "DATA_LOSS": _OTHER,
    "ENDPOINT_NOT_FOUND": _NO_SERVER,
    "INVALID_STATE": _OTHER,
    "RESOURCE_CONFLICT": _OTHER,
}


def error_meaning(exc: Exception) -> _Meaning:
    """Return the row of the tables above for an error of MLflow's client, or of a library under it."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    cause = exc.__cause__ if isinstance(exc, MlflowException) else exc
    if isinstance(cause, SQLAlchemyError) and not CONFLICT.search(str(cause)):
        # Without an error of the driver, SQLAlchemy does not accept the address.
        return _DATABASE_KINDS.get(kind_of_database_error(cause), _OTHER) if hasattr(cause, "orig") else _OTHER
    if isinstance(cause, OSError) and (kind := kind_of_error(cause)):
        return _KINDS[kind]
    if isinstance(exc, MlflowException):
        return _meaning_of_code(str(exc.error_code), str(exc))
    return _KINDS[kind] if (kind := kind_of_error(exc)) else _UNEXPECTED


def _meaning_of_code(code: str, text: str) -> _Meaning:
    from mlflow.exceptions import ERROR_CODE_TO_HTTP_STATUS

    if row := next((row for pattern, row in _TEXTS if re.search(pattern, text)), None):
        return row
    if code in _CODES:
        return _CODES[code]
    # For an answer that is not JSON, MLflow replaces a status without a code of its own by INTERNAL_ERROR.
    status = re.search(r"failed with error code (\d{3}) != 200", text)
    kind = kind_of_status(int(status[1]) if status else ERROR_CODE_TO_HTTP_STATUS.get(code, 400))
    return _KINDS[kind] if kind else _UNEXPECTED
