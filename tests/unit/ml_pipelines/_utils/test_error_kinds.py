from __future__ import annotations

import errno
import http.client
import socket
import ssl
from types import SimpleNamespace
from typing import Any

import aiohttp
import botocore.exceptions as boto
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from s3fs.errors import translate_boto_error

from ml_pipelines._utils.error_kinds import ErrorKind, kind_of_errno, kind_of_error, kind_of_status

MISSING, DENIED, INVALID = ErrorKind.MISSING, ErrorKind.DENIED, ErrorKind.INVALID
FULL, UNAVAILABLE = ErrorKind.FULL, ErrorKind.UNAVAILABLE


def boto_error(code: str, status: int) -> boto.ClientError:
    document: Any = {"Error": {"Code": code, "Message": "so"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return boto.ClientError(document, "GetObject")


def response_error(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError("so", response=response)


def aiohttp_error(status: int) -> aiohttp.ClientResponseError:
    request: Any = SimpleNamespace(real_url="http://host")
    return aiohttp.ClientResponseError(request, (), status=status)


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOENT, MISSING),
        (errno.ENOTDIR, MISSING),
        (errno.EACCES, DENIED),
        (errno.EPERM, DENIED),
        (errno.EROFS, ErrorKind.READ_ONLY),
        (errno.EISDIR, INVALID),
        (errno.ENAMETOOLONG, INVALID),
        (errno.ENOSPC, FULL),
        (errno.EDQUOT, FULL),
        (errno.EFBIG, FULL),
        (errno.EIO, UNAVAILABLE),
        (errno.ESTALE, UNAVAILABLE),
        (errno.ETIMEDOUT, UNAVAILABLE),
        (errno.ECONNRESET, UNAVAILABLE),
        (errno.EMFILE, UNAVAILABLE),
        (errno.EBUSY, UNAVAILABLE),
        (None, None),
        (12345, None),
    ],
)
def test_error_numbers(number: int | None, kind: ErrorKind | None) -> None:
    assert kind_of_errno(number) == kind
    if number is not None:
        assert kind_of_error(OSError(number, "so")) == kind


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, None),
        (204, None),
        (301, INVALID),
        (400, INVALID),
        (401, DENIED),
        (403, DENIED),
        (404, MISSING),
        (407, DENIED),
        (408, UNAVAILABLE),
        (409, UNAVAILABLE),
        (410, MISSING),
        (422, INVALID),
        (425, UNAVAILABLE),
        (429, UNAVAILABLE),
        (500, UNAVAILABLE),
        (501, INVALID),
        (502, UNAVAILABLE),
        (503, UNAVAILABLE),
        (504, UNAVAILABLE),
        (599, UNAVAILABLE),
    ],
)
def test_statuses(status: int, kind: ErrorKind | None) -> None:
    assert kind_of_status(status) == kind
    if kind is not None:
        assert kind_of_error(response_error(status)) == kind
        assert kind_of_error(aiohttp_error(status)) == kind
        assert kind_of_error(boto_error("Unknown", status)) == kind
        assert kind_of_error(caused(FileNotFoundError("http://host/a.csv"), aiohttp_error(status))) == kind


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("NoSuchKey", 404, MISSING),
        ("NoSuchBucket", 404, MISSING),
        ("AccessDenied", 403, DENIED),
        ("ExpiredToken", 400, DENIED),
        ("InvalidToken", 400, DENIED),
        ("RequestTimeTooSkewed", 403, DENIED),
        ("InvalidRequest", 400, INVALID),
        ("PermanentRedirect", 301, INVALID),
        ("RequestTimeout", 400, UNAVAILABLE),
        ("SlowDown", 503, UNAVAILABLE),
        ("InternalError", 500, UNAVAILABLE),
        ("ThrottlingException", 400, UNAVAILABLE),
    ],
)
def test_codes_of_object_stores(code: str, status: int, kind: ErrorKind) -> None:
    assert kind_of_error(boto_error(code, status)) == kind
    assert kind_of_error(translate_boto_error(boto_error(code, status))) == kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), UNAVAILABLE),
        (ConnectionResetError(), UNAVAILABLE),
        (TimeoutError(), UNAVAILABLE),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), UNAVAILABLE),
        (ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"), INVALID),
        (requests.ConnectionError(), UNAVAILABLE),
        (requests.ReadTimeout(), UNAVAILABLE),
        (requests.exceptions.ChunkedEncodingError(), UNAVAILABLE),
        (requests.exceptions.SSLError("[SSL: CERTIFICATE_VERIFY_FAILED] so"), INVALID),
        (requests.exceptions.InvalidURL(), INVALID),
        (requests.TooManyRedirects(), INVALID),
        (aiohttp.ServerDisconnectedError(), UNAVAILABLE),
        (aiohttp.ClientPayloadError(), UNAVAILABLE),
        (aiohttp.InvalidURL("http://"), INVALID),
        (http.client.IncompleteRead(b""), UNAVAILABLE),
        (boto.EndpointConnectionError(endpoint_url="http://host"), UNAVAILABLE),
        (boto.ReadTimeoutError(endpoint_url="http://host"), UNAVAILABLE),
        (boto.NoCredentialsError(), DENIED),
        (caused(OSError("so"), OSError(errno.ESTALE, "so")), UNAVAILABLE),
        (ValueError("so"), None),
        (KeyError("so"), None),
        (None, None),
    ],
)
def test_exceptions(error: Exception | None, kind: ErrorKind | None) -> None:
    assert kind_of_error(error) == kind


@given(st.integers(-1000, 1000), st.integers(100, 999))
def test_every_number_has_at_most_one_kind(number: int, status: int) -> None:
    assert kind_of_error(OSError(number, "so")) in {None, *ErrorKind}
    assert (kind_of_status(status) is None) == (status < 300)
    if status >= 502 and status != 505:
        assert kind_of_status(status) == UNAVAILABLE


def test_the_transient_kinds() -> None:
    assert [kind for kind in ErrorKind if kind.is_transient] == [FULL, UNAVAILABLE]
