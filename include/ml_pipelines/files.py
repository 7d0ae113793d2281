"""The few things that a store asks of the place where it keeps its files, and a local folder that does them.

Names are relative, with `/` between folders. The same place in a bucket: :mod:`ml_pipelines.files_s3`.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from ml_pipelines.errors import MissingExtra, RequestError, StoreUnavailable
from ml_pipelines.owner import owner

__all__ = ["Entry", "Files", "LocalFiles", "files_at", "unavailable"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One file: its name, its size in bytes, and when it was last written or touched (aware, UTC)."""

    name: str
    bytes: int
    modified: datetime


class Files(Protocol):
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

    def stat(self, name: str) -> Entry | None:
        """Size and time of a file, None if there is none."""
        ...

    def entries(self, folder: str) -> Iterator[Entry]:
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


def files_at(uri: str) -> Files:
    """The place that a URI names: `file:///...`, `s3://bucket/...` or a plain path.

    Raises:
        RequestError: it names none.
        MissingExtra: the package for S3 is not installed.
    """
    scheme, separator, rest = uri.rpartition("://")
    if not separator:
        return LocalFiles(str(Path(uri).absolute()))
    if scheme == "file" and rest.startswith("/"):
        return LocalFiles(rest.rstrip("/") or "/")
    if scheme != "s3" or not rest.strip("/"):
        raise RequestError(
            "this can't be the address of an artifact store",
            expected="file:///folder or s3://bucket/folder",
            got=uri,
            fix="correct the store's URI",
        )
    try:
        from ml_pipelines.files_s3 import S3Files
    except ModuleNotFoundError as exc:
        raise MissingExtra(
            f"the package {exc.name!r} is not installed",
            where=uri,
            fix='install the extra that brings it: pip install "airflow-provider-ml-pipelines[s3]"',
        ) from exc
    return S3Files(uri.rstrip("/"))


class LocalFiles:
    """A folder on a file system. A file is made under `tmp/` and then renamed, so it is whole or not there."""

    def __init__(self, root: str) -> None:
        self.root = Path(root)
        self.uri = f"file://{root}"

    def read(self, name: str) -> bytes | None:
        """See :class:`Files`."""
        with self._mapped(name):
            try:
                return (self.root / name).read_bytes()
            except FileNotFoundError:
                return None

    def write(self, name: str, data: bytes, *, durable: bool = False) -> None:
        """See :class:`Files`."""
        with self._mapped(name), self._temporary() as temporary:
            with temporary.open("xb") as file:
                file.write(data)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            target = self._rename(temporary, name)
            if durable:
                _sync_folder(target.parent)

    def create(self, name: str, data: bytes) -> bool:
        """See :class:`Files`. A reader may see the new file empty for a moment."""
        target = self.root / name
        with self._mapped(name):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                file = target.open("xb")
            except FileExistsError:
                return False
            try:
                with file:
                    file.write(data)
            except OSError:
                target.unlink(missing_ok=True)
                raise
        return True

    def move_in(self, path: str, name: str) -> None:
        """See :class:`Files`. A rename on the same file system, else a copy."""
        source = Path(path)
        with self._mapped(name):
            try:
                self._rename(source, name)
            except OSError as exc:
                if exc.errno != errno.EXDEV:
                    raise
                with self._temporary() as temporary:
                    shutil.copyfile(source, temporary)
                    self._rename(temporary, name)
                source.unlink()

    def local(self, name: str, directory: str) -> str | None:
        """See :class:`Files`. In place: nothing is copied."""
        return str(self.root / name) if self.stat(name) else None

    def stat(self, name: str) -> Entry | None:
        """See :class:`Files`."""
        with self._mapped(name):
            try:
                found = (self.root / name).stat()
            except FileNotFoundError:
                return None
            return Entry(name, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))

    def entries(self, folder: str) -> Iterator[Entry]:
        """See :class:`Files`."""
        for parent, _, names in os.walk(self.root / folder, onerror=self._listing_failed):
            for name in names:
                if entry := self.stat(Path(parent, name).relative_to(self.root).as_posix()):
                    yield entry

    def touch(self, name: str) -> None:
        """See :class:`Files`."""
        with self._mapped(name):
            try:
                os.utime(self.root / name)
            except FileNotFoundError:
                return

    def delete(self, name: str) -> None:
        """See :class:`Files`."""
        with self._mapped(name):
            (self.root / name).unlink(missing_ok=True)

    @contextmanager
    def scratch(self) -> Iterator[str]:
        """See :class:`Files`."""
        directory = self._temporary_path()
        with self._mapped("tmp"):
            directory.mkdir(parents=True)
        try:
            yield str(directory)
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def _temporary_path(self) -> Path:
        return self.root / "tmp" / f"{owner()}~{secrets.token_hex(8)}"

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        path = self._temporary_path()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _rename(self, source: Path, name: str) -> Path:
        target = self.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        # A file keeps its time when it is renamed, and its age counts from when it came here.
        os.utime(source)
        return source.replace(target)

    @contextmanager
    def _mapped(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise unavailable(exc, f"{self.uri}/{name}") from exc

    def _listing_failed(self, exc: OSError) -> None:
        if not isinstance(exc, FileNotFoundError):
            raise unavailable(exc, self.uri) from exc


def _sync_folder(path: Path) -> None:
    # The name of a new file is kept in its folder, and only safe when that is written.
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
