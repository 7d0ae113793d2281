"""Download of a source: bytes into a local file, the file as a table, storage errors as errors of this package."""

from __future__ import annotations

import errno
import gzip
import shutil
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ml_pipelines.adapters.addresses import redact
from ml_pipelines.errors import (
    MissingExtra,
    PipelineError,
    ServiceUnavailable,
    SourceError,
    SourceNotFound,
    SourceUnreadable,
)

__all__ = [
    "check_digest",
    "check_suffix",
    "copy_stream",
    "did_you_mean",
    "storage_error",
    "storage_errors",
    "unpack_table",
]

_SUFFIXES = (".csv", ".csv.gz", ".parquet")
_BLOCK_BYTES = 1 << 20

# Names of classes, so that no package of a storage needs to be installed.
_DENIED = {"PermissionError", "NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "NoAuthConfigured"}
_UNREACHABLE = {"ConnectionError", "TimeoutError", "gaierror", "HTTPClientError", "ClientConnectionError"}
_TRANSIENT_ERRNOS = {errno.EBUSY, errno.EIO, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH}


def did_you_mean(name: str, there: Iterable[str], *, otherwise: str) -> str:
    """Return a fix with the most similar names; `otherwise` if no name is similar."""
    near = get_close_matches(name, list(there), n=3, cutoff=0.6)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else otherwise


def check_suffix(name: str, *, where: str) -> None:
    """Raise SourceUnreadable unless the name of a file says that it is a table."""
    if not name.lower().endswith(_SUFFIXES):
        raise SourceUnreadable(
            "the format of the file is not supported",
            where=where,
            expected=f"a name that ends in {', '.join(_SUFFIXES)}",
            got=PurePosixPath(name).suffix or "no suffix",
            fix="convert the file to CSV or Parquet, or correct its name",
        )


def copy_stream(stream: BinaryIO, name: str, directory: str) -> Path:
    """Write a stream to a file of the same base name in a directory, in constant memory."""
    target = Path(directory, PurePosixPath(name).name.lower())
    with target.open("wb") as file:
        shutil.copyfileobj(stream, file, _BLOCK_BYTES)
    return target


def check_digest(path: Path, *, got: str, expected: str, where: str) -> None:
    """Raise SourceUnreadable, and remove the file, if its digest is not the one that was pinned."""
    if got != expected:
        path.unlink()
        raise SourceUnreadable(
            "the file has another digest than the data pin",
            where=where,
            expected=expected,
            got=got,
            fix="start a new run, which pins the current file; if it fails too, the stored file is damaged",
        )


def unpack_table(path: Path, *, where: str) -> str:
    """Return the CSV or Parquet file of a download, decompressed if it ends in `.gz`. A CSV file is checked.

    Raises:
        SourceUnreadable: the file can't be decompressed, or is not a valid CSV file.
    """
    if path.suffix == ".gz":
        path = _decompressed(path, where=where)
    if path.suffix == ".csv":
        # Imports polars, which a pin does not need.
        from ml_pipelines.data.csv_checks import check_csv

        try:
            check_csv(str(path))
        except SourceUnreadable as exc:
            exc.where = exc.where.replace(str(path), where)  # the copy is deleted before anybody reads the message
            raise
    return str(path)


def _decompressed(path: Path, *, where: str) -> Path:
    target = path.with_suffix("")
    try:
        with gzip.open(path) as packed, target.open("wb") as file:
            shutil.copyfileobj(packed, file, _BLOCK_BYTES)
    except (gzip.BadGzipFile, EOFError, zlib.error) as exc:
        raise SourceUnreadable(
            "the file can't be decompressed", where=where, expected="gzip", got=str(exc), fix="compress the file again"
        ) from exc
    path.unlink()
    return target


@contextmanager
def storage_errors(where: str) -> Iterator[None]:
    """Convert errors of file systems into errors of this package; others pass unchanged."""
    try:
        yield
    except PipelineError:
        raise
    except Exception as exc:
        if error := storage_error(exc, where):
            raise error from exc
        raise


def storage_error(exc: BaseException | None, where: str) -> PipelineError | None:
    """Return the error of this package for an error of a file system; None for another error."""
    kinds = {kind.__name__ for kind in type(exc).__mro__}
    got = redact(str(exc)) or type(exc).__name__
    if isinstance(exc, FileNotFoundError):
        # fsspec raises FileNotFoundError for an HTTP server that does not answer.
        return storage_error(exc.__cause__, where) or SourceNotFound(
            "there is no such file", where=where, fix="correct the path in the declaration"
        )
    if isinstance(exc, IsADirectoryError):
        return SourceUnreadable("the path is a folder", where=where, expected="one file", fix="name a file in it")
    if isinstance(exc, ImportError):
        fix = "install it; for S3: pip install 'airflow-provider-ml-pipelines[s3]'"
        return MissingExtra("a package that opens this address is not installed", where=where, got=got, fix=fix)
    if kinds & _DENIED or getattr(exc, "status", None) in (401, 403):
        fix = "give the worker credentials that may read it"
        return SourceError("the storage refuses access", where=where, got=got, fix=fix)
    if kinds & _UNREACHABLE or _is_server_error(exc):
        fix = "check the address, the network and that the server is up"
        return ServiceUnavailable("the storage does not answer", where=where, got=got, fix=fix)
    return None


def _is_server_error(exc: BaseException | None) -> bool:
    return (getattr(exc, "status", None) or 0) >= 500 or getattr(exc, "errno", None) in _TRANSIENT_ERRNOS
