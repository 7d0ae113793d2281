"""A file system in an S3 bucket: the only module that imports s3fs.

Credentials, region and `AWS_ENDPOINT_URL` come from the environment as for any AWS client, or from fsspec's own
configuration. A killed upload leaves no readable object. Its parts use space until the bucket's rule for incomplete
multipart uploads deletes them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError
from s3fs import S3FileSystem

from ml_pipelines.store.filesystems.base import FileInfo, unavailable

__all__ = ["BucketFileSystem"]

# AWS_MAX_ATTEMPTS sets the attempts, by default 3. The legacy mode takes 10 s to report a dead server.
_CLIENT = {"retries": {"mode": "standard"}}
_LOST_RACE = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})


class BucketFileSystem:
    """Objects below a prefix of a bucket. A put is atomic: an object is complete or does not exist."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def read(self, name: str) -> bytes | None:
        """See :class:`ml_pipelines.store.filesystems.base.FileSystem`."""
        with self._mapped(name):
            try:
                data: bytes = self._system.cat_file(self._path(name))
            except FileNotFoundError:
                return None
        return data

    def write(self, name: str, data: bytes, *, durable: bool = False) -> None:
        """See :class:`ml_pipelines.store.filesystems.base.FileSystem`. Every put is durable."""
        with self._mapped(name):
            self._system.pipe_file(self._path(name), data)

    def create(self, name: str, data: bytes) -> bool:
        """See :class:`ml_pipelines.store.filesystems.base.FileSystem`.

        On a server without conditional writes, every call returns True.
        """
        with self._mapped(name):
            try:
                self._system.pipe_file(self._path(name), data, mode="create")
            except OSError as exc:
                if isinstance(exc, FileExistsError) or _code(exc) in _LOST_RACE:
                    return False
                raise
        return True

    def move_in(self, path: str, name: str) -> None:
        """See :class:`ml_pipelines.store.filesystems.base.FileSystem`."""
        with self._mapped(name):
            self._system.put_file(path, self._path(name))
            Path(path).unlink()

    def local(self, name: str, directory: str) -> str | None:
        """See :class:`~ml_pipelines.store.filesystems.base.FileSystem`. An earlier download is used again."""
        path = Path(directory, name.rpartition("/")[2])
        part = path.with_suffix(".part")
        with self._mapped(f"{name}, copied into {directory}"):
            if not path.exists():
                try:
                    self._system.get_file(self._path(name), str(part))
                except FileNotFoundError:
                    return None
                part.rename(path)
        return str(path)

    def stat(self, name: str) -> FileInfo | None:
        """See :class:`ml_pipelines.store.filesystems.base.FileSystem`."""
        with self._mapped(name):
            try:
                info = self._system.info(self._path(name))
            except FileNotFoundError:
                return None
        return self._entry(info) if info["type"] == "file" else None

    def entries(self, folder: str) -> Iterator[FileInfo]:
        """See :class:`ml_pipelines.store.filesystems.base.FileSystem`."""
        with self._mapped(folder):
            objects = self._system.find(self._path(folder), detail=True)
        yield from map(self._entry, objects.values())

    def touch(self, name: str) -> None:
        """See :class:`ml_pipelines.store.filesystems.base.FileSystem`. The server copies the object onto itself."""
        path = self._path(name)
        with self._mapped(name):
            try:
                self._system.cp_file(path, path, MetadataDirective="REPLACE")
            except FileNotFoundError:
                return

    def delete(self, name: str) -> None:
        """See :class:`ml_pipelines.store.filesystems.base.FileSystem`."""
        with self._mapped(name):
            self._system.rm_file(self._path(name))

    def scratch(self) -> AbstractContextManager[str]:
        """See :class:`ml_pipelines.store.filesystems.base.FileSystem`."""
        return tempfile.TemporaryDirectory(prefix="ml-pipelines-")

    @property
    def _system(self) -> Any:
        # Not stored: s3fs keeps one instance per process and thread, so this object is safe to fork.
        return S3FileSystem(use_listings_cache=False, config_kwargs=_CLIENT)

    def _path(self, name: str) -> str:
        return f"{self.uri.removeprefix('s3://')}/{name}"

    def _entry(self, info: dict[str, Any]) -> FileInfo:
        return FileInfo(info["name"].removeprefix(self._path("")), info["size"], info["LastModified"])

    @contextmanager
    def _mapped(self, name: str) -> Iterator[None]:
        try:
            yield
        except (OSError, BotoCoreError) as exc:
            raise unavailable(exc, f"{self.uri}/{name}") from exc


def _code(exc: OSError) -> str:
    response = getattr(exc.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))
