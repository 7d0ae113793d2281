"""Download of a source: bytes into a local file, the file as a table, storage errors as errors of this package."""

from __future__ import annotations

import gzip
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ml_pipelines._utils.error_kinds import ErrorKind, kind_of_error
from ml_pipelines.adapters.declared_address import redact
from ml_pipelines.errors import (
    MissingExtra,
    PipelineError,
    ServiceUnavailable,
    SourceError,
    SourceNotFound,
    SourceUnreadable,
    StoreUnavailable,
)

__all__ = [
    "check_digest",
    "check_size",
    "check_suffix",
    "copy_stream",
    "did_you_mean",
    "storage_error",
    "storage_errors",
    "unpack_table",
]

_SUFFIXES = (".csv", ".csv.gz", ".parquet")
_BLOCK_BYTES = 1 << 20
_GZIP = b"\x1f\x8b"
# Tables shrink to a third to a hundredth. A file beyond this ratio is checked before it fills a disk.
_MAX_RATIO = 200
_UNPACKED_BYTES = 1 << 28

# A source is only read, so a full or read-only disk is that of its local copy.
_FREE = "free space, or name another folder: the copy is in the store's folder, or in TMPDIR for a store in S3"
_ERRORS: dict[ErrorKind, tuple[type[PipelineError], str, str]] = {
    ErrorKind.MISSING: (SourceNotFound, "there is no such file", "correct the path in the declaration"),
    ErrorKind.DENIED: (SourceError, "the storage refuses access", "give the worker credentials that may read it"),
    ErrorKind.INVALID: (
        SourceError,
        "the storage does not accept the request",
        "correct the address in the declaration, or what the message names",
    ),
    ErrorKind.UNAVAILABLE: (
        ServiceUnavailable,
        "the storage does not answer",
        "check the address, the network and that the server is up",
    ),
    ErrorKind.FULL: (StoreUnavailable, "the disk is full", _FREE),
    ErrorKind.READ_ONLY: (StoreUnavailable, "the copy of the file can't be written", _FREE),
    ErrorKind.DAMAGED: (SourceUnreadable, "the file is damaged", "deliver the file again"),
}


def did_you_mean(name: str, there: Iterable[str], *, otherwise: str) -> str:
    """Return a fix with the most similar names; `otherwise` if no name is similar."""
    near = get_close_matches(name, list(there), n=3, cutoff=0.6)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else otherwise


def check_suffix(name: str, *, where: str) -> None:
    """Raise SourceUnreadable unless the suffix of a file is that of a table."""
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


def check_size(path: Path, expected: int | None, *, where: str) -> None:
    """Raise ServiceUnavailable, and remove the file, if it is shorter than the storage states: it was cut off."""
    got = path.stat().st_size
    if expected is not None and got < expected:
        path.unlink()
        raise ServiceUnavailable(
            "the download is not complete",
            where=where,
            expected=f"{expected:,} bytes",
            got=f"{got:,} bytes",
            fix="check the network and the server; if the file has changed, start a new run",
        )


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
    """Return the CSV or Parquet file of a download, decompressed if it ends in `.gz`.

    Raises:
        SourceUnreadable: the file can't be decompressed.
    """
    if path.suffix == ".gz":
        path = _decompressed(path, where=where)
    return str(path)


def _decompressed(path: Path, *, where: str) -> Path:
    target = path.with_suffix("")
    _check_gzip(path, where)
    limit = max(_UNPACKED_BYTES, _MAX_RATIO * path.stat().st_size)
    size = 0
    try:
        with gzip.open(path) as packed, target.open("wb") as file:
            while block := packed.read(_BLOCK_BYTES):
                size += len(block)
                if size > limit:
                    raise _too_large(path.stat().st_size, limit, where)
                file.write(block)
    except (gzip.BadGzipFile, EOFError, zlib.error) as exc:
        raise SourceUnreadable(
            "the file can't be decompressed", where=where, expected="gzip", got=str(exc), fix="compress the file again"
        ) from exc
    path.unlink()
    return target


def _check_gzip(path: Path, where: str) -> None:
    with path.open("rb") as file:
        start = file.read(2)
    if start != _GZIP:
        raise SourceUnreadable(
            "the file is not compressed, although its name ends in .gz",
            where=where,
            expected="gzip",
            got=f"the first bytes {start!r}",
            fix="let its name end in .csv, or compress the file by gzip",
        )


def _too_large(packed: int, limit: int, where: str) -> SourceUnreadable:
    return SourceUnreadable(
        "the decompressed file is too large for its compressed size",
        where=where,
        expected=f"at most {limit:,} bytes: {_UNPACKED_BYTES:,}, or {_MAX_RATIO} times the compressed size",
        got=f"more than that from {packed:,} bytes",
        fix="check the file; if all its rows are wanted, deliver it without compression or as Parquet",
    )


@contextmanager
def storage_errors(where: str, hide: Callable[[str], str] = redact) -> Iterator[None]:
    """Convert errors of file systems into errors of this package.

    The cause is dropped: a traceback prints its text, and that can contain the address with its secrets.

    Args:
        where: the address without secrets.
        hide: removes the secrets from a message.
    """
    try:
        yield
    except PipelineError:
        raise
    except Exception as exc:  # the exceptions of storage libraries have no common base
        raise (storage_error(exc, where, hide) or _unknown_error(exc, where, hide)) from None


def _unknown_error(exc: Exception, where: str, hide: Callable[[str], str]) -> PipelineError:
    got = hide(" ".join(f"{type(exc).__name__}: {exc}".split()))
    if isinstance(exc, ValueError | TypeError):
        return SourceUnreadable("the address can't be read", where=where, got=got, fix="correct the address")
    fix = "correct the address in the declaration, or what the message names"
    return SourceError("the storage can't be read", where=where, got=got, fix=fix)


def storage_error(exc: BaseException | None, where: str, hide: Callable[[str], str] = redact) -> PipelineError | None:
    """Return the error of this package for an error of a file system; None for another error."""
    got = hide(str(exc)) or type(exc).__name__
    if isinstance(exc, IsADirectoryError):
        return SourceUnreadable("the path is a folder", where=where, expected="one file", fix="name a file in it")
    if isinstance(exc, ImportError):
        fix = "install it; for S3: pip install 'airflow-provider-ml-pipelines[s3]'"
        return MissingExtra("a package that opens this address is not installed", where=where, got=got, fix=fix)
    kind = kind_of_error(exc)
    if kind is None:
        return None
    error, what, fix = _ERRORS[kind]
    return error(what, where=where, got="" if kind is ErrorKind.MISSING else got, fix=fix)
