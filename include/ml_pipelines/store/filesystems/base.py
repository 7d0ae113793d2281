"""The interface of the file systems of a store. Names are relative, with `/` between folders."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ml_pipelines._utils.error_kinds import error_number, kind_of_error
from ml_pipelines.errors import StoreUnavailable

__all__ = ["FileInfo", "FileSystem", "unavailable"]


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file's name, its size in bytes, and the time of its last write or touch (aware, UTC)."""

    name: str
    bytes: int
    modified: datetime


class FileSystem(Protocol):
    """A file system whose files are complete at any time: a reader never sees a partial file.

    Every method raises StoreUnavailable if the file system can't be used.
    """

    uri: str

    def read(self, name: str) -> bytes | None:
        """Return the bytes of a file; None if it does not exist."""
        ...

    def write(self, name: str, data: bytes, *, durable: bool = False) -> None:
        """Write or replace a file atomically. A `durable` file survives a power failure after the call returns."""
        ...

    def create(self, name: str, data: bytes) -> bool:
        """Write a file unless it exists. Of concurrent calls, one returns True."""
        ...

    def move_in(self, path: str, name: str) -> None:
        """Move a local file here; it replaces a file of the same name."""
        ...

    def local(self, name: str, directory: str) -> str | None:
        """Return the path of a local file to read, in place or copied into `directory`; None if it does not exist."""
        ...

    def stat(self, name: str) -> FileInfo | None:
        """Return the size and time of a file; None if it does not exist."""
        ...

    def entries(self, folder: str) -> Iterator[FileInfo]:
        """Return all files below a folder."""
        ...

    def touch(self, name: str) -> None:
        """Set the time of a file to the current time. It is no error if the file does not exist."""
        ...

    def delete(self, name: str) -> None:
        """Delete a file. It is no error if the file does not exist."""
        ...

    def scratch(self) -> AbstractContextManager[str]:
        """Return a temporary local directory, from which :meth:`move_in` is fast."""
        ...


_ADVICE: dict[int | None, tuple[str, str]] = {
    errno.ENOSPC: ("the store is full", "free space; `ml-pipelines store prune` deletes results that are not needed"),
    errno.EDQUOT: (
        "the store's quota is used up",
        "raise it; `ml-pipelines store prune` deletes results that are not needed",
    ),
    errno.EFBIG: ("a file is larger than this process or file system allows", "raise the limit, as shown by ulimit -f"),
    errno.EROFS: ("the store is read-only", "mount it writable, or choose another store"),
    errno.EACCES: ("this process has no access to the store", "give its user permission to read and write"),
    errno.EPERM: ("this process has no access to the store", "give its user permission to read and write"),
}
if hasattr(errno, "EREMCHG"):  # the number of s3fs for a redirect
    _ADVICE[errno.EREMCHG] = (
        "the store's bucket is in another region or at another address",
        "set AWS_DEFAULT_REGION to the region of the bucket, and AWS_ENDPOINT_URL if it is not at AWS",
    )
_OTHER = ("the store can't be used", "check that it exists and is reachable from this machine")
_MALFORMED = (
    "the server of the store answers with something else than its API returns",
    "check that its address leads to the store itself, not to the login or error page of a proxy, then try again",
)
_LONGEST_TEXT = 500


def unavailable(exc: Exception, where: str, *, hide: Callable[[str], str] = str) -> StoreUnavailable:
    """Return the StoreUnavailable for an error of the operating system or of a vendor's library.

    Args:
        exc: the error. If it states what was `expected`, the message does too.
        where: address of the file.
        hide: removes the secrets from the text of the error.
    """
    number = errno.EACCES if isinstance(exc, PermissionError) else error_number(exc)
    # Neither an error of the system nor of a server: the client could not read an answer.
    malformed = not isinstance(exc, OSError) and kind_of_error(exc) is None
    what, fix = _ADVICE.get(number, _MALFORMED if malformed else _OTHER)
    return StoreUnavailable(
        what,
        where=f"{where} on host {socket.gethostname()}",
        expected=str(getattr(exc, "expected", "")),
        got=hide(f"{type(exc).__name__}: {exc}")[:_LONGEST_TEXT],
        fix=fix,
    )
