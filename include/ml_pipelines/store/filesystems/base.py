"""The few things that a store asks of the place where it keeps its files, and a local folder that does them.

Names are relative, with `/` between folders. The same place in a bucket: :mod:`ml_pipelines.store.filesystems.s3`.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ml_pipelines.errors import StoreUnavailable

__all__ = ["FileInfo", "FileSystem", "unavailable"]


@dataclass(frozen=True, slots=True)
class FileInfo:
    """One file: its name, its size in bytes, and when it was last written or touched (aware, UTC)."""

    name: str
    bytes: int
    modified: datetime


class FileSystem(Protocol):
    """A place for files. Nobody ever sees half of one.

    Every method raises StoreUnavailable if the place can't be used.
    """

    uri: str

    def read(self, name: str) -> bytes | None:
        """The bytes of a file, None if there is none."""
        ...

    def write(self, name: str, data: bytes, *, durable: bool = False) -> None:
        """Make or replace a file, at once; `durable`: it survives a power cut once this returns."""
        ...

    def create(self, name: str, data: bytes) -> bool:
        """Make a file if there is none. Of many who try, one is told True."""
        ...

    def move_in(self, path: str, name: str) -> None:
        """Make or replace a file by a local one, which is gone afterwards."""
        ...

    def local(self, name: str, directory: str) -> str | None:
        """Path of a file that may be read, in place or copied into a local directory; None if there is none."""
        ...

    def stat(self, name: str) -> FileInfo | None:
        """Size and time of a file, None if there is none."""
        ...

    def entries(self, folder: str) -> Iterator[FileInfo]:
        """All files below a folder."""
        ...

    def touch(self, name: str) -> None:
        """Make a file as young as if it had just been written. No error if there is none."""
        ...

    def delete(self, name: str) -> None:
        """Remove a file. No error if there is none."""
        ...

    def scratch(self) -> AbstractContextManager[str]:
        """A local directory, removed at the end, from where :meth:`move_in` is cheap."""
        ...


_ADVICE: dict[int | None, tuple[str, str]] = {
    errno.ENOSPC: ("the store is full", "free some space; `ml-pipelines store prune` removes what nothing needs"),
    errno.EDQUOT: ("the store's quota is used up", "raise it; `ml-pipelines store prune` removes what nothing needs"),
    errno.EROFS: ("the store is read-only", "mount it writable, or choose another store"),
    errno.EACCES: ("the store may not be used by this process", "give its user the right to read and write there"),
    errno.EPERM: ("the store may not be used by this process", "give its user the right to read and write there"),
}
_OTHER = ("the store can't be used", "see that it is there and can be reached from this machine")


def unavailable(exc: Exception, where: str) -> StoreUnavailable:
    """The error that says what an operating system's or vendor's error means for the store."""
    number = errno.EACCES if isinstance(exc, PermissionError) else getattr(exc, "errno", None)
    what, fix = _ADVICE.get(number, _OTHER)
    return StoreUnavailable(
        what, where=f"{where} on host {socket.gethostname()}", got=f"{type(exc).__name__}: {exc}", fix=fix
    )
