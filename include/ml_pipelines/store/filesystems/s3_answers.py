"""Checks of the answers of an S3 server.

The client of S3 returns an answer of another form as an answer without fields. A page of a proxy then reads as an empty
folder, or as a stored object. So each answer must have the fields that S3 always sends.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from ml_pipelines.store.filesystems.base import FileInfo

__all__ = [
    "MalformedAnswer",
    "check_status",
    "check_stored",
    "file_info",
    "is_lost_race",
    "is_missing",
    "listed_files",
    "next_page",
]

_OK, _NOT_FOUND, _PRECONDITION_FAILED = 200, 404, 412
_LOST_RACE = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})
_FIRST_YEAR = 2006  # S3 has no older objects. A number or a part of a date would be a date of 1970.


class MalformedAnswer(Exception):
    """A server does not answer as S3 does."""

    def __init__(self, expected: str, got: str) -> None:
        self.expected = expected
        super().__init__(got)


def check_status(answer: Mapping[str, Any]) -> None:
    """Raise MalformedAnswer unless the HTTP status is 200. The client also accepts others below 301."""
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if status != _OK:
        raise MalformedAnswer(f"the HTTP status {_OK}", f"the HTTP status {status}")


def check_stored(answer: Mapping[str, Any], described: Any) -> None:
    """Raise MalformedAnswer unless an answer describes an object that S3 has: by its ETag."""
    check_status(answer)
    if not isinstance(described, Mapping) or not described.get("ETag"):
        raise MalformedAnswer("the ETag of the object", "an answer without ETag")


def file_info(name: str, size: Any, modified: Any) -> FileInfo:
    """Return the information about an object.

    Raises:
        MalformedAnswer: its size or time is missing or malformed.
    """
    if not isinstance(size, int) or size < 0:
        raise MalformedAnswer(f"the size of {name} in bytes", repr(size))
    if not isinstance(modified, datetime) or modified.tzinfo is None or modified.year < _FIRST_YEAR:
        # Retention deletes old files, so it must not take a malformed time for an old one.
        raise MalformedAnswer(f"the time of the last write of {name}, in UTC", str(modified))
    return FileInfo(name, size, modified.astimezone(UTC))  # which raises ValueError for an impossible offset


def listed_files(page: Mapping[str, Any], prefix: str, root: str) -> list[FileInfo]:
    """Return the files of one page of a listing, with names relative to `root`.

    Raises:
        MalformedAnswer: the page is not the listing of the prefix, or is incomplete.
    """
    contents = page.get("Contents", [])
    if "IsTruncated" not in page or page.get("Prefix", prefix) != prefix:
        raise MalformedAnswer(f"a listing of {prefix}", f"a listing of {page.get('Prefix', 'nothing')}")
    if page.get("KeyCount", len(contents)) != len(contents):
        raise MalformedAnswer(f"a listing of {page['KeyCount']} objects", f"{len(contents)} objects")
    keys = [str(row.get("Key", "")) for row in contents]
    if foreign := next((key for key in keys if not key.startswith(prefix)), None):
        raise MalformedAnswer(f"objects below {prefix}", foreign)
    if "" in keys:
        raise MalformedAnswer(f"objects below {prefix}", "an object without a key")
    return [
        file_info(key.removeprefix(root), row.get("Size"), row.get("LastModified"))
        for key, row in zip(keys, contents, strict=True)
    ]


def next_page(page: Mapping[str, Any], seen: Collection[str]) -> str | None:
    """Return the token of the next page of a listing; None after the last page.

    Raises:
        MalformedAnswer: the token is missing, unexpected or was sent before, so that the listing has no end.
    """
    token = page.get("NextContinuationToken")
    if page["IsTruncated"] != bool(token) or token in seen:
        raise MalformedAnswer("the token of the next page of a listing", repr(token))
    return str(token) if token else None


def is_missing(exc: Exception) -> bool:
    """Return whether S3 answered that an object or bucket does not exist.

    The client decides by the code in the body of an error, also in an answer of another status. A server of another
    kind answers 404 without such a code; only the answer to a HEAD request has no body.
    """
    if not isinstance(exc, FileNotFoundError):
        return False
    response = _response(exc)
    error, metadata = response.get("Error", {}), response.get("ResponseMetadata", {})
    is_head = getattr(exc.__cause__, "operation_name", "") == "HeadObject"
    return metadata.get("HTTPStatusCode") == _NOT_FOUND and (is_head or error.get("Code") != str(_NOT_FOUND))


def is_lost_race(exc: OSError) -> bool:
    """Return whether a conditional write failed because the object exists."""
    response = _response(exc)
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    code = response.get("Error", {}).get("Code")
    return status == _PRECONDITION_FAILED or (code in _LOST_RACE and status == 409)


def _response(exc: OSError) -> Mapping[str, Any]:
    response = getattr(exc.__cause__, "response", None)
    return response if isinstance(response, Mapping) else {}
