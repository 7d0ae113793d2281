"""Classify errors of operating systems and HTTP services by what helps: other input, other rights, or a retry.

:func:`kind_of_error` reads facts in a fixed order: the response of a server, the number of the operating system, and
the names of the exception's classes. Names are compared as texts, so that no vendor's library has to be installed.
:mod:`ml_pipelines.adapters.sql.error_kinds` classifies errors of databases.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

__all__ = ["ErrorKind", "error_number", "kind_of_errno", "kind_of_error", "kind_of_status"]


class ErrorKind(StrEnum):
    """What an error of an external system means. The last two are transient."""

    MISSING = "missing"
    DENIED = "denied"
    READ_ONLY = "read-only"
    INVALID = "invalid"
    DAMAGED = "damaged"
    FULL = "full"
    UNAVAILABLE = "unavailable"

    @property
    def is_transient(self) -> bool:
        """Whether a retry may succeed."""
        return self in (ErrorKind.FULL, ErrorKind.UNAVAILABLE)


def _table(**names: str) -> dict[str, ErrorKind]:
    return {name: ErrorKind[kind.upper()] for kind, text in names.items() for name in text.split()}


# Any other number may be temporary: EIO, ESTALE, EMFILE, ENETUNREACH and the like.
_ERRNO = {
    getattr(errno, name): kind
    for name, kind in _table(
        missing="ENOENT ENOTDIR",
        denied="EACCES EPERM",
        invalid="EINVAL EISDIR ELOOP ENAMETOOLONG EMSGSIZE ENOSYS EOPNOTSUPP EREMCHG ENOTEMPTY EEXIST EXDEV",
        read_only="EROFS",
        full="ENOSPC EDQUOT EFBIG",
    ).items()
    if hasattr(errno, name)  # some are missing outside Linux
}
_STATUS = {401: "denied", 403: "denied", 407: "denied", 404: "missing", 410: "missing", 501: "invalid", 505: "invalid"}
# Statuses below 500 that mean "try later": timeout, conflict of two writers, lock, too early, rate limit.
_TRANSIENT_STATUS = frozenset({408, 409, 421, 423, 425, 429})

# Codes of S3. A code is more exact than its status: `RequestTimeout` has the status 400.
_CODES = _table(
    missing="NoSuchBucket NoSuchKey NoSuchVersion NotFound",
    denied="AccessDenied AccountProblem AllAccessDisabled ExpiredToken ExpiredTokenException InvalidAccessKeyId"
    " InvalidClientTokenId InvalidSecurity InvalidToken RequestTimeTooSkewed SignatureDoesNotMatch"
    " TokenRefreshRequired UnrecognizedClientException",
    unavailable="BandwidthLimitExceeded InternalError InternalFailure OperationAborted PriorRequestNotComplete"
    " ProvisionedThroughputExceededException RequestLimitExceeded RequestThrottled RequestThrottledException"
    " RequestTimeout RequestTimeoutException ServiceUnavailable SlowDown Throttling ThrottlingException"
    " TooManyRequestsException TransactionInProgressException",
)
# Names of exception classes of Python, requests, urllib3, aiohttp and botocore.
_CLASSES = _table(
    missing="FileNotFoundError NotADirectoryError",
    denied="PermissionError NoCredentialsError PartialCredentialsError CredentialRetrievalError ProfileNotFound"
    " NoAuthConfigured",
    invalid="InvalidURL InvalidUrlClientError InvalidSchema MissingSchema LocationParseError TooManyRedirects"
    " ParamValidationError UnicodeError",
    unavailable="ConnectionError TimeoutError Timeout gaierror herror SSLError HTTPClientError ClientConnectionError"
    " ClientPayloadError IncompleteRead IncompleteReadError ChunkedEncodingError ContentDecodingError ProtocolError"
    " RetryError MaxRetryError ServerTimeoutError ConnectTimeoutError ReadTimeoutError",
)


def kind_of_status(status: int) -> ErrorKind | None:
    """Return the kind of an HTTP status; None if it is no error."""
    if status < 300:
        return None
    if status in _TRANSIENT_STATUS:
        return ErrorKind.UNAVAILABLE
    return ErrorKind(_STATUS.get(status, "unavailable" if status >= 500 else "invalid"))


def kind_of_errno(number: int | None) -> ErrorKind | None:
    """Return the kind of an error number of the operating system; None for another number."""
    return _ERRNO.get(number, ErrorKind.UNAVAILABLE) if number in errno.errorcode else None


def kind_of_error(exc: BaseException | None) -> ErrorKind | None:
    """Return the kind of an error of a file system, an object store or an HTTP client; None for another error.

    Libraries hide the response of a server behind an OSError, and name the first error as its cause. So the cause
    counts first.
    """
    if exc is None:
        return None
    return kind_of_error(exc.__cause__) or _own_kind(exc)


def _own_kind(exc: BaseException) -> ErrorKind | None:
    if "CERTIFICATE_VERIFY_FAILED" in str(exc):
        return ErrorKind.INVALID  # as an error of a connection it would be transient
    names = [kind.__name__ for kind in type(exc).__mro__]
    by_name = next((_CLASSES[name] for name in names if name in _CLASSES), None)
    # An error number of these classes is not one of the operating system.
    own_numbers = {"gaierror", "herror", "SSLError"}.isdisjoint(names)
    by_number = kind_of_errno(error_number(exc)) if own_numbers else None
    return _response_kind(exc) or by_number or by_name


def error_number(exc: BaseException) -> int | None:
    """Return the error number of the operating system; polars has it only in its text."""
    number = getattr(exc, "errno", None)
    match = re.search(r"\(os error (\d+)\)", str(exc)) if number is None else None
    return int(match[1]) if match else number


def _response_kind(exc: BaseException) -> ErrorKind | None:
    response = getattr(exc, "response", None)
    if isinstance(response, Mapping):  # botocore
        code, status = _read(response, "Error", "Code"), _read(response, "ResponseMetadata", "HTTPStatusCode")
        by_code, by_status = _CODES.get(str(code)), _status_kind(status)
        if by_code is ErrorKind.MISSING and by_status is not None:
            return by_status  # a failed request reports nothing about the object
        return by_code or by_status or _status_kind(code)
    places = ((exc, "status"), (exc, "status_code"), (exc, "code"), (response, "status_code"))
    return next((kind for owner, name in places if (kind := _status_kind(getattr(owner, name, None)))), None)


def _status_kind(status: Any) -> ErrorKind | None:
    text = str(status)
    return kind_of_status(int(text)) if len(text) == 3 and text.isdecimal() and text[0] in "345" else None


def _read(document: Mapping[str, Any], *names: str) -> Any:
    value: Any = document
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
