"""Detect files whose content has another format than the file name states."""

from __future__ import annotations

from pathlib import Path

from ml_pipelines.errors import SourceUnreadable

__all__ = ["check_format"]

_PARQUET = b"PAR1"
_UNPACK = "unpack the file and deliver the table that it contains"
_EXPORT = "export the table as CSV"
# For each format: the first bytes of its files, its name, and the fix.
_FORMATS: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x03\x04", "a zip archive or an Excel workbook", f"{_UNPACK}, or {_EXPORT}"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", _EXPORT),
    (b"\x1f\x8b", "compressed by gzip", "rename the file so that its name ends in .csv.gz, or unpack the file"),
    (b"BZh", "compressed by bzip2", _UNPACK),
    (b"\xfd7zXZ\x00", "compressed by xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", _UNPACK),
    (b"7z\xbc\xaf", "a 7z archive", _UNPACK),
    (b"%PDF", "a PDF document", _EXPORT),
    (b"SQLite format 3\x00", "an SQLite database", "declare it under data.sql"),
    (_PARQUET, "a Parquet file", "rename the file so that its name ends in .parquet"),
)
_PAGES = (b"<!doctype html", b"<html")


def check_format(path: str, location: str) -> None:
    """Check that the first bytes of a file fit the format in its name.

    Args:
        path: path of a local file, whose name ends in `.csv` or `.parquet`.
        location: name of the data in error messages.

    Raises:
        SourceUnreadable: the file has another format than its name states.
    """
    with Path(path).open("rb") as file:
        start = file.read(1024)
    expected = "a Parquet file" if path.endswith(".parquet") else "a CSV file"
    detected = next(((name, fix) for first, name, fix in _FORMATS if start.startswith(first)), None)
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_PAGES):
        detected = "an HTML page", "check the address, because a server may answer with an error page or a login page"
    if detected and detected[0] != expected:
        raise SourceUnreadable(f"the file is {detected[0]}", where=location, expected=expected, fix=detected[1])
