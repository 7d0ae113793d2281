"""Open the file system of a URI."""

from __future__ import annotations

from pathlib import Path

from ml_pipelines.errors import MissingExtra, RequestError
from ml_pipelines.store.filesystems.base import Files
from ml_pipelines.store.filesystems.local import LocalFiles

__all__ = ["files_at"]


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
        from ml_pipelines.store.filesystems.s3 import S3Files
    except ModuleNotFoundError as exc:
        raise MissingExtra(
            f"the package {exc.name!r} is not installed",
            where=uri,
            fix='install the extra that brings it: pip install "airflow-provider-ml-pipelines[s3]"',
        ) from exc
    return S3Files(uri.rstrip("/"))
