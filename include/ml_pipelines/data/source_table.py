"""A local CSV or Parquet file that was checked, and whose rows were counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ml_pipelines._utils.error_kinds import ErrorKind, kind_of_error
from ml_pipelines.data.column_expressions import check_row_count
from ml_pipelines.data.csv_records import csv_header, rewrite_csv
from ml_pipelines.data.csv_structure import scan_csv_bytes
from ml_pipelines.data.file_format_check import check_format
from ml_pipelines.errors import NoRows, SourceUnreadable

__all__ = ["SourceTable", "open_source", "source_errors"]


class SourceTable(NamedTuple):
    """A local file that polars reads right.

    Attributes:
        path: of the file, `.csv` (plain; see :mod:`ml_pipelines.data.csv_structure`) or `.parquet`.
        location: of the data, for errors: the local file is deleted before anybody reads them.
        columns: names of the columns.
        rows: number of rows, blank lines included.
    """

    path: str
    location: str
    columns: tuple[str, ...]
    rows: int

    @property
    def is_text(self) -> bool:
        """Whether all cells are text whose types are to be found."""
        return self.path.endswith(".csv")

    def scan(self) -> pl.LazyFrame:
        """Return the rows. All cells of a CSV file are text; an empty cell is null."""
        if not self.is_text:
            return pl.scan_parquet(self.path, glob=False)
        # Polars leaves doubled quotes in the names of a header as they are.
        names = list(self.columns)
        frame = pl.scan_csv(self.path, infer_schema=False, glob=False, with_column_names=lambda _: names)
        return frame.with_columns(pl.when(pl.all() != "").then(pl.all()))

    def check_rows(self, rows: int) -> None:
        """Check that a reader returned all rows.

        Raises:
            DataError: it returned more or fewer.
        """
        check_row_count(rows, self.rows, where=self.location)


def open_source(path: str, location: str, directory: str) -> SourceTable:
    """Check a local file and count its rows. A CSV file that is not plain is rewritten.

    Args:
        path: of the file, `.csv` (comma-separated, UTF-8, with a header) or `.parquet`.
        location: of the data, for errors.
        directory: where a file that is not plain is rewritten.

    Raises:
        NoRows: the file has a header only.
        SourceUnreadable: the file is not a table. The error has the line and the fix.
    """
    check_format(path, location)
    return _open_csv(path, location, directory) if path.endswith(".csv") else _open_parquet(path, location)


def _open_csv(path: str, location: str, directory: str) -> SourceTable:
    structure = scan_csv_bytes(path, location)
    names = csv_header(path, location)
    lines, blank = structure.lines - 1, structure.blank
    if not structure.plain:
        target = str(Path(directory, "plain.csv"))
        lines, blank = rewrite_csv(path, location, target)
        path = target
    if lines == blank:
        raise NoRows("the file has a header and no rows", where=location, fix="deliver the rows as well")
    return SourceTable(path, location, tuple(names), lines)


def _open_parquet(path: str, location: str) -> SourceTable:
    # Another reader than the one that reads the rows.
    try:
        names, rows = pq.read_schema(path).names, pq.read_metadata(path).num_rows
    except (pa.ArrowException, OSError) as exc:
        raise _unreadable(exc, path, location) from exc
    if repeated := [name for name, number in Counter(names).items() if number > 1]:
        raise SourceUnreadable(
            f"several columns are called {repeated[0]!r}",
            where=location,
            got=", ".join(names)[:200],
            fix="give each column its own name",
        )
    return SourceTable(path, location, tuple(names), rows)


@contextmanager
def source_errors(source: SourceTable) -> Iterator[None]:
    """Convert the errors of polars, at any stage of a query, into errors of this package."""
    try:
        yield
    except SourceUnreadable as exc:
        exc.where = exc.where or source.location
        raise
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as exc:
        if kind_of_error(exc) not in (None, ErrorKind.INVALID):
            raise  # an error of the disk, and not of the file's content
        raise _unreadable(exc, source.path, source.location) from exc


def _unreadable(error: BaseException, path: str, location: str) -> SourceUnreadable:
    kind = "CSV" if path.endswith(".csv") else "Parquet"
    got = (str(error).splitlines() or [type(error).__name__])[0].replace(path, location)
    return SourceUnreadable(
        f"the file can't be read as {kind}",
        where=location,
        got=got,
        fix="write the file again; in Parquet, write columns of numbers, texts and times",
    )
