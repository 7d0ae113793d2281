"""Open the file system of a URI."""

from __future__ import annotations

from pathlib import Path

from ml_pipelines._utils.addresses import redact_address
from ml_pipelines.errors import MissingExtra, RequestError
from ml_pipelines.store.filesystems.base import FileSystem
from ml_pipelines.store.filesystems.local import LocalFileSystem

__all__ = ["open_filesystem"]


def open_filesystem(uri: str) -> FileSystem:
    """Return the file system of a URI: `file:///...`, `s3://bucket/...` or a plain path.

    Raises:
        RequestError: the URI has another form.
        MissingExtra: the package for S3 is not installed.
    """
    scheme, separator, rest = uri.partition("://")
    scheme = scheme.lower()
    if not separator:
        return LocalFileSystem(str(Path(uri).absolute()))
    if scheme == "file" and rest.startswith("/"):
        return LocalFileSystem(rest.rstrip("/") or "/")
    shown = redact_address(uri)
    if scheme == "s3" and shown != uri:
        # The address is part of each artifact reference, and so of XComs and the ledger.
        raise RequestError(
            "the address of an artifact store can't hold credentials",
            where=shown,
            expected="s3://bucket/folder",
            fix="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment",
        )
    if scheme != "s3" or not rest.strip("/"):
        raise RequestError(
            "this is not an address of an artifact store",
            expected="file:///folder or s3://bucket/folder",
            got=shown,
            fix="correct the store's URI",
        )
    try:
        from ml_pipelines.store.filesystems.s3 import BucketFileSystem
    except ModuleNotFoundError as exc:
        raise MissingExtra(
            f"the package {exc.name!r} is not installed",
            where=uri,
            fix='install the extra that brings it: pip install "airflow-provider-ml-pipelines[s3]"',
        ) from exc
    return BucketFileSystem(f"s3://{rest.rstrip('/')}")
