from __future__ import annotations

import errno
import sqlite3
from typing import Any

import pytest
import requests
import sqlalchemy as sa
from google.protobuf.json_format import ParseError
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import ErrorCode

from ml_pipelines.adapters.mlflow.client import checked
from ml_pipelines.adapters.mlflow.error_meaning import error_meaning
from ml_pipelines.errors import PipelineError, RegistryError, ServiceUnavailable, StoreUnavailable, TransientError

FINAL = PipelineError


def sqlite_error(code: int, text: str = "so") -> sa.exc.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return sa.exc.OperationalError("select", None, error)


def coded(code: str, text: str = "so") -> MlflowException:
    return MlflowException(text, error_code=ErrorCode.Value(code))


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def without_json(status: int) -> MlflowException:
    """As MLflow raises it for a page in HTML."""
    from mlflow.exceptions import get_error_code

    text = f"API request to endpoint /api failed with error code {status} != 200. Response body: '<html>'"
    return MlflowException(text, error_code=get_error_code(status))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (coded("INTERNAL_ERROR"), ServiceUnavailable),
        (coded("TEMPORARILY_UNAVAILABLE"), ServiceUnavailable),
        (coded("REQUEST_LIMIT_EXCEEDED"), ServiceUnavailable),
        (coded("RESOURCE_EXHAUSTED"), ServiceUnavailable),
        (coded("DEADLINE_EXCEEDED"), ServiceUnavailable),
        (coded("ABORTED"), ServiceUnavailable),
        (coded("RESOURCE_DOES_NOT_EXIST"), RegistryError),
        (coded("NOT_FOUND"), RegistryError),
        (coded("ENDPOINT_NOT_FOUND"), FINAL),
        (coded("PERMISSION_DENIED"), FINAL),
        (coded("UNAUTHENTICATED"), FINAL),
        (coded("INVALID_PARAMETER_VALUE"), FINAL),
        (coded("RESOURCE_ALREADY_EXISTS"), FINAL),
        (coded("NOT_IMPLEMENTED"), FINAL),
        (coded("INTERNAL_ERROR", "Detected out-of-date database schema (found version a)"), FINAL),
        (coded("INTERNAL_ERROR", "[SSL: CERTIFICATE_VERIFY_FAILED] so"), FINAL),
        (coded("BAD_REQUEST", "(sqlite3.IntegrityError) UNIQUE constraint failed"), ServiceUnavailable),
        (coded("INTERNAL_ERROR", "the response body was not in a valid JSON format"), ServiceUnavailable),
        (RestException({}), ServiceUnavailable),
        (without_json(302), FINAL),
        (without_json(413), FINAL),
        (without_json(401), FINAL),
        (without_json(408), ServiceUnavailable),
        (without_json(502), ServiceUnavailable),
        (caused(coded("TEMPORARILY_UNAVAILABLE"), sqlite_error(1, "no such table: runs")), FINAL),
        (caused(coded("TEMPORARILY_UNAVAILABLE"), sqlite_error(8)), FINAL),
        (caused(coded("TEMPORARILY_UNAVAILABLE"), sqlite_error(13)), StoreUnavailable),
        (caused(coded("TEMPORARILY_UNAVAILABLE"), sqlite_error(5)), ServiceUnavailable),
        (sqlite_error(1, "duplicate column name: lifecycle_stage"), FINAL),
        (sqlite_error(10), ServiceUnavailable),
        (sa.exc.NoSuchModuleError("so"), FINAL),
        (requests.ConnectionError(), ServiceUnavailable),
        (OSError(errno.ENOSPC, "so"), StoreUnavailable),
        (PermissionError(errno.EACCES, "so"), FINAL),
        (FileNotFoundError(errno.ENOENT, "so"), RegistryError),
        (ParseError("so"), ServiceUnavailable),
        (AttributeError("so"), ServiceUnavailable),
        (KeyError("so"), ServiceUnavailable),
    ],
    ids=lambda value: getattr(value, "error_code", None) or getattr(value, "__name__", type(value).__name__),
)
def test_what_an_error_means(error: Exception, kind: type[PipelineError]) -> None:
    meaning, what, fix = error_meaning(error)
    assert meaning is kind
    assert what
    assert fix


@pytest.mark.parametrize("code", sorted(ErrorCode.keys()))
def test_every_code_of_mlflow_has_a_meaning(code: str) -> None:
    kind, _, _ = error_meaning(coded(code))
    if code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "ABORTED", "CANCELLED"):
        assert issubclass(kind, TransientError)
    if code in ("PERMISSION_DENIED", "INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST"):
        assert not issubclass(kind, TransientError)


@pytest.mark.parametrize("identity", [{"name": "churn"}, {"name": ""}, {"version": 1}])
def test_an_empty_answer_is_not_the_requested_object(identity: dict[str, Any]) -> None:
    from mlflow.entities.model_registry import ModelVersion

    with pytest.raises(LookupError):
        checked(ModelVersion(name="", version="", creation_timestamp=0), **identity)
