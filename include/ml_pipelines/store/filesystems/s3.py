"""A file system in an S3 bucket: the only module that imports s3fs.

Credentials, region and `AWS_ENDPOINT_URL` come from the environment as for any AWS client, or from fsspec's own
configuration. A killed upload leaves no readable object. Its parts use space until the bucket's rule for incomplete
multipart uploads deletes them.

No answer is trusted because of its status alone: a proxy can answer a request with its own page. An object is missing
only if S3 reports it; see :mod:`ml_pipelines.store.filesystems.s3_answers`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from aiobotocore.httpsession import AIOHTTPSession
from fsspec.asyn import sync
from s3fs import S3FileSystem

from ml_pipelines._utils.addresses import redact, replace_secret
from ml_pipelines.errors import PipelineError
from ml_pipelines.store.filesystems.base import FileInfo, unavailable
from ml_pipelines.store.filesystems.s3_answers import (
    MalformedAnswer,
    check_status,
    check_stored,
    file_info,
    is_lost_race,
    is_missing,
    listed_files,
    next_page,
)

__all__ = ["BucketFileSystem"]


class _Session(AIOHTTPSession):  # type: ignore[misc]  # aiobotocore has no types
    """HTTP sessions that follow no redirect. The page behind a redirect of a proxy would count as the object."""

    async def _get_session(self, proxy_url: str | None) -> Any:
        session = await super()._get_session(proxy_url)
        return SimpleNamespace(request=partial(session.request, allow_redirects=False))


# AWS_MAX_ATTEMPTS sets the attempts, by default 3. The legacy mode takes 10 s to report a dead server.
_CLIENT = {"retries": {"mode": "standard"}, "http_session_cls": _Session}
_DOWNLOADS = 3  # of a body that is cut off; the client repeats only requests without any answer
_LARGEST_COPY = 5 << 30  # bytes that S3 copies in one request
_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "FSSPEC_S3_SECRET", "FSSPEC_S3_TOKEN")


class BucketFileSystem:
    """Objects below a prefix of a bucket. A put is atomic: an object is complete or does not exist."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def read(self, name: str) -> bytes | None:
        """See :class:`ml_pipelines.store.filesystems.base.FileSystem`."""
        with self._mapped(name, missing_ok=True):
            return self._download(self._path(name))
        return None

    def write(self, name: str, data: bytes, *, durable: bool = False) -> None:
        """See :class:`ml_pipelines.store.filesystems.base.FileSystem`. Every put is durable."""
        with self._mapped(name):
            self._check_put(name, self._system.pipe_file(self._path(name), data), len(data))

    def create(self, name: str, data: bytes) -> bool:
        """See :class:`ml_pipelines.store.filesystems.base.FileSystem`.

        On a server without conditional writes, every call returns True.
        """
        with self._mapped(name):
            try:
                self._check_put(name, self._system.pipe_file(self._path(name), data, mode="create"), len(data))
            except OSError as exc:
                if is_lost_race(exc):
                    return False
                raise
        return True

    def move_in(self, path: str, name: str) -> None:
        """See :class:`ml_pipelines.store.filesystems.base.FileSystem`. The local file stays until S3 has its bytes."""
        with self._mapped(name):
            size = Path(path).stat().st_size
            self._check_put(name, self._system.put_file(path, self._path(name)), size)
            Path(path).unlink()

    def local(self, name: str, directory: str) -> str | None:
        """See :class:`~ml_pipelines.store.filesystems.base.FileSystem`. An earlier download is used again."""
        path = Path(directory, name.rpartition("/")[2])
        part = path.with_suffix(".part")
        if path.exists():
            return str(path)
        if (entry := self.stat(name)) is None:
            return None
        with self._mapped(f"{name}, copied into {directory}", missing_ok=True):
            self._system.get_file(self._path(name), str(part))
            if (size := part.stat().st_size) != entry.bytes:
                raise MalformedAnswer(f"a download of {entry.bytes:,} bytes", f"{size:,} bytes")
            part.rename(path)
            return str(path)
        return None

    def stat(self, name: str) -> FileInfo | None:
        """See :class:`ml_pipelines.store.filesystems.base.FileSystem`."""
        with self._mapped(name, missing_ok=True):
            bucket, key = self._place(name)
            answer = self._system.call_s3("head_object", Bucket=bucket, Key=key)
            check_status(answer)
            return file_info(name, answer.get("ContentLength"), answer.get("LastModified"))
        return None

    def entries(self, folder: str) -> Iterator[FileInfo]:
        """See :class:`ml_pipelines.store.filesystems.base.FileSystem`."""
        with self._mapped(folder):
            listed = [entry for page in self._pages(folder) for entry in page]
        yield from listed

    def touch(self, name: str) -> None:
        """See :class:`ml_pipelines.store.filesystems.base.FileSystem`. The server copies the object onto itself."""
        if (entry := self.stat(name)) is None:
            return
        path, how = self._path(name), {"MetadataDirective": "REPLACE"}
        with self._mapped(name, missing_ok=True):
            if entry.bytes > _LARGEST_COPY:
                self._system.cp_file(path, path, **how)
                return
            bucket, key = self._place(name)
            source = {"Bucket": bucket, "Key": key}
            answer = self._system.call_s3("copy_object", Bucket=bucket, Key=key, CopySource=source, **how)
            check_stored(answer, answer.get("CopyObjectResult"))

    def delete(self, name: str) -> None:
        """See :class:`ml_pipelines.store.filesystems.base.FileSystem`."""
        with self._mapped(name, missing_ok=True):
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

    def _place(self, name: str) -> tuple[str, str]:
        """Return the bucket and the key of a name."""
        bucket, key, _ = self._system.split_path(self._path(name))
        return bucket, key

    def _download(self, path: str) -> bytes:
        for last in (*[False] * (_DOWNLOADS - 1), True):
            try:
                return bytes(sync(self._system.loop, _body, self._system, path))
            except OSError:  # an answer of the server, which the client has tried again where that helps
                raise
            except Exception:  # a cut body fails anywhere in the client
                if last:
                    raise
        raise AssertionError

    def _pages(self, folder: str) -> Iterator[list[FileInfo]]:
        bucket, root = self._place("")
        root = f"{root.rstrip('/')}/".removeprefix("/")
        prefix = f"{root}{folder}/" if folder else root
        token: dict[str, str] = {}
        seen: set[str] = set()
        while True:
            page = self._system.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, **token)
            check_status(page)
            yield listed_files(page, prefix, root)
            if (following := next_page(page, seen)) is None:
                return
            seen.add(following)
            token = {"ContinuationToken": following}

    def _check_put(self, name: str, answer: Any, size: int) -> None:
        """Raise MalformedAnswer unless S3 has the bytes of a put. An upload in parts returns no answer."""
        if answer is not None:
            check_stored(answer, answer)
            return
        entry = self.stat(name)
        if entry is None or entry.bytes != size:
            got = f"{entry.bytes:,} bytes" if entry else "no object"
            raise MalformedAnswer(f"an object of {size:,} bytes after the upload", got)

    @contextmanager
    def _mapped(self, name: str, *, missing_ok: bool = False) -> Iterator[None]:
        try:
            yield
        except PipelineError:
            raise
        except Exception as exc:  # a malformed answer fails anywhere in the client
            if missing_ok and is_missing(exc):
                return
            # Without the cause: a traceback prints its text, which can have a secret.
            raise unavailable(exc, f"{self.uri}/{name}", hide=_without_secrets) from None


async def _body(system: Any, path: str) -> bytes:
    bucket, key, _ = system.split_path(path)
    answer = await system._call_s3("get_object", Bucket=bucket, Key=key)
    async with answer["Body"] as body:
        check_stored(answer, answer)
        data: bytes = await body.read()
    if len(data) != answer.get("ContentLength"):
        raise MalformedAnswer(f"a body of {answer.get('ContentLength')} bytes", f"{len(data):,} bytes")
    return data


def _without_secrets(text: str) -> str:
    for name in _SECRETS:
        text = replace_secret(text, os.environ.get(name, ""), "***")
    return redact(text, os.environ.get("AWS_ENDPOINT_URL", ""), os.environ.get("AWS_ENDPOINT_URL_S3", ""))
