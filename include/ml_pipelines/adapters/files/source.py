"""The data source for a CSV or Parquet file. The file is local, or at a URI that fsspec opens."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from ml_pipelines.adapters.declared_address import DeclaredAddress, resolve_address
from ml_pipelines.adapters.files.download import (
    check_digest,
    check_size,
    check_suffix,
    copy_stream,
    did_you_mean,
    storage_error,
    storage_errors,
    unpack_table,
)
from ml_pipelines.contracts import DataPin
from ml_pipelines.errors import ServiceUnavailable, SourceNotFound, SourceUnreadable
from ml_pipelines.spec.sources import FileSource

__all__ = ["FileDataSource"]

_LONGEST_TEXT = 500


class FileDataSource:
    """:class:`ml_pipelines.ports.DataSource` for one file.

    The digest of a local file is the SHA-256 of its content. The digest of a remote file is its ETag, because an ETag
    needs no download. The digest of a remote file without a strong ETag is the SHA-256 of its content.
    """

    def __init__(
        self,
        declared: FileSource,
        environment: Mapping[str, str],
        connections: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        del connections  # a file needs no connection, but all adapters take the same arguments
        self._declared, self._environment = declared, environment

    def pin(self) -> DataPin:
        """Return the version of the file."""
        address = self._address()
        where = address.shown
        with storage_errors(where, address.redact):
            fs, path = _file_system(address)
            info = _info(fs, path, address)
            check_suffix(_name(address.text), where=where)
            digest = _etag(fs, info) or _sha256(fs, path)
        return DataPin(source="file", location=where, digest=digest, bytes=info.get("size"))

    def fetch(self, pin: DataPin, directory: str) -> str:
        """Copy the file into a local directory and verify the copy's digest."""
        address = self._address()
        where = address.shown
        with storage_errors(where, address.redact):
            fs, path = _file_system(address)
            _info(fs, path, address)
            with fs.open(path, "rb") as stream:
                copy = copy_stream(cast(BinaryIO, stream), _name(address.text), directory)
            check_size(copy, pin.bytes, where=where)
            if pin.digest:
                tag = _etag(fs, _info(fs, path, address)) if pin.digest.startswith("etag:") else None
                got = tag or _sha256(LocalFileSystem(), str(copy))
                check_digest(copy, got=got, expected=pin.digest, where=where)
            return unpack_table(copy, where=where)

    def _address(self) -> DeclaredAddress:
        return resolve_address(self._declared.path, self._environment, field="data.file.path")


def _file_system(address: DeclaredAddress) -> tuple[AbstractFileSystem, str]:
    # fsspec accepts the name of a protocol only in lower case.
    text = re.sub(r"^[A-Za-z][\w+.-]*(?=://)", lambda match: match[0].lower(), address.text)
    try:
        return cast("tuple[AbstractFileSystem, str]", url_to_fs(text))
    except ValueError as exc:
        raise SourceNotFound(
            "the protocol of the address is not supported",
            where=address.shown,
            expected="a local path, or a URI such as s3://bucket/customers.csv",
            got=address.redact(str(exc)),
            fix="correct the path in the declaration",
        ) from None


def _info(fs: AbstractFileSystem, path: str, address: DeclaredAddress) -> dict[str, Any]:
    fs.invalidate_cache()
    try:
        info = cast("dict[str, Any]", fs.info(path))
    except FileNotFoundError as exc:
        if exc.__cause__ is None:
            raise _not_found(fs, path, address) from None
        # fsspec reports each failure of a web server as a missing file, with the failure as its cause.
        raise storage_error(exc.__cause__, address.shown, address.redact) or _malformed(
            exc.__cause__, address
        ) from None
    if info["type"] == "directory":
        raise SourceUnreadable(
            "the path is a folder",
            where=address.shown,
            expected="one file",
            fix="name one file, or join the files into one file",
        )
    return info


def _malformed(exc: BaseException, address: DeclaredAddress) -> ServiceUnavailable:
    return ServiceUnavailable(
        "the server does not answer with the file",
        where=address.shown,
        expected="the size of the file",
        got=address.redact(f"{type(exc).__name__}: {exc}")[:_LONGEST_TEXT],
        fix="check that the address leads to the file, not to the page of a proxy, then try again",
    )


def _not_found(fs: AbstractFileSystem, path: str, address: DeclaredAddress) -> SourceNotFound | SourceUnreadable:
    where = address.shown
    if "*" in path:
        return SourceUnreadable(
            "patterns are not supported",
            where=where,
            expected="one file",
            fix="name one file, or join the files into one file",
        )
    folder = Path(path).parent
    if not isinstance(fs, LocalFileSystem):
        return SourceNotFound("there is no such file", where=where, fix="correct the path in the declaration")
    if not folder.is_dir():
        fix = "correct the path in the declaration, or mount the folder where the task runs"
        return SourceNotFound(
            "there is no such file", where=where, got=f"no folder {address.redact(str(folder))}", fix=fix
        )
    names = [entry.name for entry in folder.iterdir()]
    fix = did_you_mean(Path(path).name, names, otherwise="correct the path in the declaration, or deliver the file")
    return SourceNotFound("there is no such file", where=where, fix=fix)


def _name(address: str) -> str:
    return urlsplit(address).path if "://" in address else address


def _etag(fs: AbstractFileSystem, info: dict[str, Any]) -> str | None:
    """Return `etag:...` if the file has a strong ETag. A weak ETag (`W/`) may stay the same when the bytes change."""
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
