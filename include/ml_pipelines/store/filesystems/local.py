"""A file system in a local folder."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from ml_pipelines._utils.process import process_identity
from ml_pipelines.store.filesystems.base import FileInfo, unavailable

__all__ = ["LocalFileSystem"]


class LocalFileSystem:
    """A local folder. A file is written under `tmp/` and then renamed, so it is complete or does not exist."""

    def __init__(self, root: str) -> None:
        self.root = Path(root)
        self.uri = f"file://{root}"

    def read(self, name: str) -> bytes | None:
        """See :class:`FileSystem`."""
        with self._mapped(name):
            try:
                return (self.root / name).read_bytes()
            except FileNotFoundError:
                return None

    def write(self, name: str, data: bytes, *, durable: bool = False) -> None:
        """See :class:`FileSystem`."""
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
        """See :class:`FileSystem`. A reader may see the new file empty for a moment."""
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
        """See :class:`FileSystem`. A rename on the same file system, else a copy."""
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
        """See :class:`FileSystem`. In place: nothing is copied."""
        return str(self.root / name) if self.stat(name) else None

    def stat(self, name: str) -> FileInfo | None:
        """See :class:`FileSystem`."""
        with self._mapped(name):
            try:
                status = (self.root / name).stat()
            except FileNotFoundError:
                return None
            return FileInfo(name, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))

    def entries(self, folder: str) -> Iterator[FileInfo]:
        """See :class:`FileSystem`."""
        for parent, _, names in os.walk(self.root / folder, onerror=self._listing_failed):
            for name in names:
                if entry := self.stat(Path(parent, name).relative_to(self.root).as_posix()):
                    yield entry

    def touch(self, name: str) -> None:
        """See :class:`FileSystem`."""
        with self._mapped(name):
            try:
                os.utime(self.root / name)
            except FileNotFoundError:
                return

    def delete(self, name: str) -> None:
        """See :class:`FileSystem`."""
        with self._mapped(name):
            (self.root / name).unlink(missing_ok=True)

    @contextmanager
    def scratch(self) -> Iterator[str]:
        """See :class:`FileSystem`."""
        directory = self._temporary_path()
        with self._mapped("tmp"):
            directory.mkdir(parents=True)
        try:
            yield str(directory)
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def _temporary_path(self) -> Path:
        return self.root / "tmp" / f"{process_identity()}~{secrets.token_hex(8)}"

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
        # A rename keeps the time of a file, but its age counts from its arrival in the store.
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
    # The name of a new file is stored in its folder, and survives a power failure only if that is synced.
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
