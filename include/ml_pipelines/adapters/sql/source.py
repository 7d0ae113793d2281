"""The rows of a query, by SQLAlchemy.

Where the database has server-side cursors, such a cursor reads the rows, so `chunk_rows` bounds the memory. Each chunk
becomes a small Parquet file of its own; only when all types are known, they are joined into one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import polars as pl
import sqlalchemy as sa
from sqlalchemy import exc as sa_errors

from ml_pipelines._utils.error_kinds import ErrorKind
from ml_pipelines.adapters.declared_address import DeclaredAddress, resolve_address
from ml_pipelines.adapters.files.download import did_you_mean
from ml_pipelines.adapters.sql.database_url import URL_FIX, parse_database_url, show_database_url
from ml_pipelines.adapters.sql.driver_values import to_series, wider_type
from ml_pipelines.adapters.sql.error_kinds import kind_of_database_error
from ml_pipelines.contracts import DataPin
from ml_pipelines.data.column_expressions import check_row_count
from ml_pipelines.data.streaming import count_rows
from ml_pipelines.errors import (
    MissingExtra,
    NoRows,
    PipelineError,
    ServiceUnavailable,
    SourceError,
    SourceNotFound,
    SourceUnreadable,
)
from ml_pipelines.spec.sources import SqlSource

__all__ = ["SqlDataSource"]

_LOG = logging.getLogger(__name__)
_PROGRESS_SECONDS = 5.0
_CONNECT_SECONDS = 15

_BAD_QUERY = (SourceUnreadable, "the database can't run the query", "correct the query")
_ERRORS: dict[ErrorKind, tuple[type[PipelineError], str, str]] = {
    ErrorKind.MISSING: (
        SourceNotFound,
        "there is no such table or database",
        "correct the query or the address in the declaration, or grant access to the table",
    ),
    ErrorKind.DENIED: (
        SourceError,
        "the database refuses access",
        "give the connection a user and a password that may read the tables",
    ),
    ErrorKind.READ_ONLY: _BAD_QUERY,
    ErrorKind.INVALID: _BAD_QUERY,
    ErrorKind.DAMAGED: (
        SourceUnreadable,
        "the file is not a database, or the database is damaged",
        "correct the address in the declaration, or restore the database",
    ),
    ErrorKind.FULL: (
        ServiceUnavailable,
        "the database has no space left",
        "free space on the server of the database, then try again",
    ),
    ErrorKind.UNAVAILABLE: (
        ServiceUnavailable,
        "the database does not answer",
        "check that the database is up and reachable from the worker",
    ),
}


class SqlDataSource:
    """:class:`ml_pipelines.ports.DataSource` for the rows of a query.

    The version of the data is defined only after the rows are read.
    """

    def __init__(
        self, declared: SqlSource, environment: Mapping[str, str], connections: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self._declared, self._environment, self._connections = declared, environment, connections

    def pin(self) -> DataPin:
        """Return the address of the database, which is not queried."""
        address, url = self._address()
        return DataPin(source="sql", location=address.shown if address.has_variables else show_database_url(url))

    def fetch(self, pin: DataPin, directory: str) -> str:
        """Run the query, read-only, and write its rows to one Parquet file.

        Raises:
            NoRows: there are none.
        """
        address, url = self._address()
        target = Path(directory, "rows.parquet")
        with (
            _database_errors(pin.location, address),
            _reading(url, pin.location) as connection,
            TemporaryDirectory(dir=directory) as parts,
        ):
            chunks = _chunks(connection, self._declared, pin.location)
            types, rows = _write_parts(chunks, Path(parts), pin.location)
            _join(Path(parts), types, target)
            check_row_count(count_rows(pl.scan_parquet(target, glob=False)), rows, where=pin.location)
        return str(target)

    def _address(self) -> tuple[DeclaredAddress, sa.URL]:
        declared = self._declared
        if declared.connection is None:
            field = "data.sql.url"
            address = resolve_address(declared.url or "", self._environment, field=field)
        elif declared.connection in self._connections:
            field = f"connection {declared.connection!r}"
            address = DeclaredAddress(self._connections[declared.connection], field)
        else:
            otherwise = f"define it, for example by ML_PIPELINES_CONNECTION_{declared.connection.upper()}"
            raise SourceNotFound(
                f"there is no connection {declared.connection!r}",
                where="data.sql.connection",
                got=", ".join(sorted(self._connections)) or "no connections",
                fix=did_you_mean(declared.connection, self._connections, otherwise=otherwise),
            )
        url = parse_database_url(address.text)
        if url is None:
            expected = "dialect://user:password@host:port/database"
            raise SourceNotFound("the address is not a database URL", where=field, expected=expected, fix=URL_FIX)
        return address, url


@contextmanager
def _reading(url: sa.URL, where: str) -> Iterator[sa.Connection]:
    """A connection; read-only on PostgreSQL, and on SQLite except for a `file:` URI, which keeps its own mode."""
    engine = _engine(url, where)
    options = {"postgresql_readonly": True} if url.get_backend_name() == "postgresql" else {}
    try:
        with engine.connect().execution_options(**options) as connection:
            yield connection
    finally:
        engine.dispose()


def _engine(url: sa.URL, where: str) -> sa.Engine:
    arguments: dict[str, Any] = {}
    if url.get_backend_name() == "sqlite" and url.database and not url.database.startswith("file:"):
        url = url.set(database=f"file:{quote(url.database)}").update_query_dict({"mode": "ro", "uri": "true"})
    elif "psycopg" in url.drivername or url.drivername == "postgresql":
        arguments["connect_timeout"] = int(str(url.query.get("connect_timeout", _CONNECT_SECONDS)))
    try:
        return sa.create_engine(url, poolclass=sa.NullPool, connect_args=arguments)
    except ModuleNotFoundError as exc:
        raise MissingExtra(
            "the driver of the database is not installed",
            where=where,
            got=f"no package {exc.name!r}",
            fix=f"install it: pip install {exc.name}; or name another driver in the URL",
        ) from exc
    except sa_errors.NoSuchModuleError as exc:
        fix = "correct the URL, or install the package that brings the dialect"
        raise SourceNotFound("the kind of database is not known", where=where, got=url.drivername, fix=fix) from exc


def _chunks(connection: sa.Connection, declared: SqlSource, where: str) -> Iterator[dict[str, Sequence[Any]]]:
    """Columns of `chunk_rows` rows at a time. The query goes to the driver as it is: `:` and `%` mean nothing here."""
    options = {"stream_results": True, "max_row_buffer": declared.chunk_rows, "no_parameters": True}
    with closing(connection.exec_driver_sql(declared.query, execution_options=options)) as result:
        names = _names(result, declared.query, where)
        rows_read, logged_at = 0, monotonic()
        for rows in result.partitions(declared.chunk_rows):
            yield dict(zip(names, zip(*rows, strict=True), strict=True))
            rows_read += len(rows)
            if monotonic() - logged_at > _PROGRESS_SECONDS:
                logged_at = monotonic()
                _LOG.info("%d rows read from %s", rows_read, where)
    if not rows_read:
        raise NoRows("the query gives no rows", where=where, got=declared.query[:200], fix="widen the query")


def _names(result: sa.CursorResult[Any], query: str, where: str) -> list[str]:
    if not result.returns_rows:
        raise SourceUnreadable(
            "the statement is not a query", where=where, expected="SELECT ...", got=query[:200], fix="write a query"
        )
    names = list(result.keys())
    if repeated := next((name for name in names if names.count(name) > 1), None):
        fix = "name each column once, with AS where two tables have the same"
        raise SourceUnreadable(f"several columns are called {repeated!r}", where=where, got=", ".join(names), fix=fix)
    return names


def _write_parts(
    chunks: Iterator[dict[str, Sequence[Any]]], directory: Path, where: str
) -> tuple[dict[str, pl.DataType], int]:
    """Write each chunk to a file; return the types that hold all values, by column, and the number of rows."""
    types: dict[str, pl.DataType] = {}
    rows = 0
    for number, chunk in enumerate(chunks):
        columns = [to_series(name, values, where) for name, values in chunk.items()]
        for column in columns:
            types[column.name] = wider_type(types.get(column.name, pl.Null()), column.dtype, column.name, where)
        pl.DataFrame(columns).write_parquet(directory / f"{number:09}.parquet", compression="lz4")
        rows += len(columns[0])
    return types, rows


def _join(parts: Path, types: dict[str, pl.DataType], target: Path) -> None:
    """One Parquet file of all parts. A column without a single value becomes text."""
    schema = pl.Schema({name: pl.String() if dtype == pl.Null() else dtype for name, dtype in types.items()})
    frames = [pl.scan_parquet(part).cast(schema) for part in sorted(parts.iterdir())]
    pl.concat(frames).sink_parquet(target)


@contextmanager
def _database_errors(where: str, address: DeclaredAddress) -> Iterator[None]:
    try:
        yield
    except sa_errors.SQLAlchemyError as exc:
        kind, what, fix = _ERRORS[kind_of_database_error(exc)]
        message = address.redact(" ".join(str(getattr(exc, "orig", None) or exc).split()))
        # A traceback would print the cause as it is, with credentials.
        raise kind(what, where=where, got=message, fix=fix) from None
