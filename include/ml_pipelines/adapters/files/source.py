"""A CSV or Parquet file, local or at any URI that fsspec opens."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from ml_pipelines.adapters.addresses import expand_variables, redact
from ml_pipelines.adapters.files.download import (
    check_digest,
    check_suffix,
    copy_stream,
    did_you_mean,
    storage_error,
    storage_errors,
    unpack_table,
)
from ml_pipelines.contracts import DataPin
from ml_pipelines.errors import SourceNotFound, SourceUnreadable
from ml_pipelines.spec.training import FileSource

__all__ = ["FileDataSource"]


class FileDataSource:
    """:class:`ml_pipelines.ports.DataSource` for one file.

    The digest of a local file is the SHA-256 of its content. The digest of an object is its ETag, which needs no
    download; without an ETag it is the SHA-256 of its content.
    """

    def __init__(
        self,
        declared: FileSource,
        environment: Mapping[str, str],
        connections: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        del connections  # a file needs none; all adapters take the same arguments
        self._declared, self._environment = declared, environment

    def pin(self) -> DataPin:
        """Return the version of the file."""
        address = self._address()
        where = redact(address)
        with storage_errors(where):
            fs, path = _file_system(address)
            info = _info(fs, path, where)
            check_suffix(_name(address), where=where)
            digest = _etag(fs, info) or _sha256(fs, path)
        return DataPin(source="file", location=where, digest=digest, bytes=info.get("size"))

    def fetch(self, pin: DataPin, directory: str) -> str:
        """Copy the file into a local directory and verify its digest."""
        address = self._address()
        where = redact(address)
        with storage_errors(where):
            fs, path = _file_system(address)
            _info(fs, path, where)
            with fs.open(path, "rb") as stream:
                copy = copy_stream(cast(BinaryIO, stream), _name(address), directory)
            if pin.digest:
                tag = _etag(fs, _info(fs, path, where)) if pin.digest.startswith("etag:") else None
                got = tag or _sha256(LocalFileSystem(), str(copy))
                check_digest(copy, got=got, expected=pin.digest, where=where)
        return unpack_table(copy, where=where)

    def _address(self) -> str:
        return expand_variables(self._declared.path, self._environment, field="data.file.path")


def _file_system(address: str) -> tuple[AbstractFileSystem, str]:
    try:
        return cast("tuple[AbstractFileSystem, str]", url_to_fs(address))
    except ValueError as exc:
        raise SourceNotFound(
            "the protocol of the address is not supported",
            where=redact(address),
            expected="a local path, or a URI such as s3://bucket/customers.csv",
            got=redact(str(exc)),
            fix="correct the path in the declaration",
        ) from exc


def _info(fs: AbstractFileSystem, path: str, where: str) -> dict[str, Any]:
    fs.invalidate_cache()
    try:
        info = cast("dict[str, Any]", fs.info(path))
    except FileNotFoundError as exc:
        raise storage_error(exc.__cause__, where) or _not_found(fs, path, where) from exc
    if info["type"] == "directory":
        raise SourceUnreadable(
            "the path is a folder", where=where, expected="one file", fix="name one file, or join the files into one"
        )
    return info


def _not_found(fs: AbstractFileSystem, path: str, where: str) -> SourceNotFound | SourceUnreadable:
    if "*" in path:
        return SourceUnreadable(
            "patterns are not supported",
            where=where,
            expected="one file",
            fix="name one file, or join the files into one",
        )
    folder = Path(path).parent
    if not isinstance(fs, LocalFileSystem):
        return SourceNotFound("there is no such file", where=where, fix="correct the path in the declaration")
    if not folder.is_dir():
        fix = "correct the path in the declaration, or mount the folder where the task runs"
        return SourceNotFound("there is no such file", where=where, got=f"no folder {folder}", fix=fix)
    names = [entry.name for entry in folder.iterdir()]
    fix = did_you_mean(Path(path).name, names, otherwise="correct the path in the declaration, or deliver the file")
    return SourceNotFound("there is no such file", where=where, fix=fix)


def _name(address: str) -> str:
    return urlsplit(address).path if "://" in address else address


def _etag(fs: AbstractFileSystem, info: dict[str, Any]) -> str | None:
    """`etag:...` if the store gives a strong one; a weak one (`W/`) may stay the same when the bytes change."""
    tag = info.get("ETag") or info.get("etag")
    if isinstance(fs, LocalFileSystem) or not tag or str(tag).startswith("W/"):
        return None
    return f"etag:{str(tag).strip(chr(34))}"


def _sha256(fs: AbstractFileSystem, path: str) -> str:
    digest = hashlib.sha256()
    with fs.open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return f"sha256:{digest.hexdigest()}"
