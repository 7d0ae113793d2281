"""The rows of a query, by SQLAlchemy.

Rows are read through a server-side cursor where the database has one, so that memory is a matter of `chunk_rows`. Each
chunk becomes a small Parquet file of its own; only when all types are known, they are joined into one.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from types import MappingProxyType
from typing import Any
from urllib.parse import quote
from uuid import UUID

import polars as pl
import sqlalchemy as sa
from sqlalchemy import exc as sa_errors

from ml_pipelines.adapters.addresses import expand_variables, redact
from ml_pipelines.adapters.files.download import did_you_mean
from ml_pipelines.contracts import DataPin
from ml_pipelines.errors import (
    MissingExtra,
    NoRows,
    PipelineError,
    ServiceUnavailable,
    SourceError,
    SourceNotFound,
    SourceUnreadable,
)
from ml_pipelines.spec.training import SqlSource

__all__ = ["SqlDataSource"]

_LOG = logging.getLogger(__name__)
_PROGRESS_SECONDS = 5.0
_CONNECT_SECONDS = 15

_Column = tuple[pl.DataType, Callable[[Any], Any] | None]
_INTEGER, _FLOAT, _TEXT, _UTC = pl.Int64(), pl.Float64(), pl.String(), pl.Datetime("us", "UTC")
_TYPES: dict[type, _Column] = {
    bool: (pl.Boolean(), None),
    int: (_INTEGER, None),
    float: (_FLOAT, None),
    Decimal: (_FLOAT, float),
    str: (_TEXT, None),
    UUID: (_TEXT, str),
    time: (_TEXT, time.isoformat),
    date: (pl.Date(), None),
    datetime: (pl.Datetime("us"), None),
}

# What databases say: their SQLSTATE, or the message if they give none. The first that fits counts.
_FAULTS: tuple[tuple[str, type[PipelineError], str, str], ...] = (
    (
        r"^(3D000|42P01|3F000)|no such table|(table|database|schema|relation|view)\W.*(does not|doesn't) exist"
        r"|unknown database|unable to open database file",
        SourceNotFound,
        "there is no such table or database",
        "correct the query or the address in the declaration, or grant access to the table",
    ),
    (
        r"^(28|42501)|authentication failed|access denied|permission denied|no password supplied|role .*not exist",
        SourceError,
        "the database refuses access",
        "give the connection a user and a password that may read the tables",
    ),
    (r"^42|no such column|syntax error", SourceUnreadable, "the database can't run the query", "correct the query"),
    (
        r"^(08|53|57|25P0[34]|40|55P03)|timeout|timed out|connect|closed|database is locked|gone away|lost connection",
        ServiceUnavailable,
        "the database does not answer",
        "check that the database is up and reachable from the worker",
    ),
)


class SqlDataSource:
    """:class:`ml_pipelines.ports.DataSource` for the rows of a query. Only reading tells which version they are."""

    def __init__(
        self, declared: SqlSource, environment: Mapping[str, str], connections: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self._declared, self._environment, self._connections = declared, environment, connections

    def pin(self) -> DataPin:
        """Tell the database, by its address alone; it is not asked."""
        return DataPin(source="sql", location=_location(self._url()))

    def fetch(self, pin: DataPin, directory: str) -> str:
        """Run the query, read-only, and write its rows to one Parquet file.

        Raises:
            NoRows: there are none.
        """
        url = self._url()
        target = Path(directory, "rows.parquet")
        with (
            _database_errors(pin.location),
            _reading(url, pin.location) as connection,
            TemporaryDirectory(dir=directory) as parts,
        ):
            chunks = _chunks(connection, self._declared, pin.location)
            types = _write_parts(chunks, Path(parts), pin.location)
            _join(Path(parts), types, target)
        return str(target)

    def _url(self) -> sa.URL:
        declared = self._declared
        if declared.connection is None:
            field, text = "data.sql.url", expand_variables(declared.url or "", self._environment, field="data.sql.url")
        elif declared.connection in self._connections:
            field, text = f"connection {declared.connection!r}", self._connections[declared.connection]
        else:
            otherwise = f"define it, for example by ML_PIPELINES_CONNECTION_{declared.connection.upper()}"
            raise SourceNotFound(
                f"there is no connection {declared.connection!r}",
                where="data.sql.connection",
                got=", ".join(sorted(self._connections)) or "no connections",
                fix=did_you_mean(declared.connection, self._connections, otherwise=otherwise),
            )
        return _parsed(text, field)


def _parsed(text: str, field: str) -> sa.URL:
    try:
        # Other tools say postgres, and the driver that Airflow brings is psycopg2; SQLAlchemy's default is another one.
        return sa.make_url(re.sub(r"^postgres(?:ql)?(?=:)", "postgresql+psycopg2", text))
    except (sa_errors.ArgumentError, ValueError) as exc:
        raise SourceNotFound(
            "the address is not a database URL",
            where=field,
            expected="dialect://user:password@host:port/database",
            fix="correct it; special characters of a password are written %40 for @, %2F for / and so on",
        ) from exc


def _location(url: sa.URL) -> str:
    host = (url.host or "") + (f":{url.port}" if url.port else "")
    return f"{url.get_backend_name()}://{host}/{url.database or ''}"


@contextmanager
def _reading(url: sa.URL, where: str) -> Iterator[sa.Connection]:
    """A connection that can't write, where the database has such a thing."""
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


def _write_parts(chunks: Iterator[dict[str, Sequence[Any]]], directory: Path, where: str) -> dict[str, pl.DataType]:
    """Write each chunk to a file; the types that hold all of its columns' values, by name."""
    types: dict[str, pl.DataType] = {}
    for number, chunk in enumerate(chunks):
        columns = [_series(name, values, where) for name, values in chunk.items()]
        for column in columns:
            types[column.name] = _wider(types.get(column.name, pl.Null()), column.dtype, column.name, where)
        pl.DataFrame(columns).write_parquet(directory / f"{number:09}.parquet", compression="lz4")
    return types


def _series(name: str, values: Sequence[Any], where: str) -> pl.Series:
    dtype: pl.DataType = pl.Null()
    converters: dict[type, Callable[[Any], Any]] = {}
    for kind in {type(value) for value in values} - {type(None)}:
        wanted, converter = _TYPES.get(kind) or _no_type(name, kind, where)
        if kind is datetime and any(value.tzinfo for value in values if value is not None):
            wanted, converter = _UTC, _to_utc
        dtype = _wider(dtype, wanted, name, where)
        if converter:
            converters[kind] = converter
    if dtype == _FLOAT:
        converters[int] = float
    if converters:
        values = [converters[type(value)](value) if type(value) in converters else value for value in values]
    try:
        return pl.Series(name, values, dtype=dtype)
    except (TypeError, OverflowError) as exc:
        raise _mixed(name, str(exc), where) from exc


def _to_utc(value: datetime) -> datetime:
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


def _wider(one: pl.DataType, other: pl.DataType, name: str, where: str) -> pl.DataType:
    """The type that holds the values of two."""
    if one in (other, pl.Null()):
        return other
    if other == pl.Null():
        return one
    if {one, other} == {_INTEGER, _FLOAT}:
        return _FLOAT
    raise _mixed(name, f"{one} and {other}", where)


def _mixed(name: str, got: str, where: str) -> SourceUnreadable:
    return SourceUnreadable(
        f"the column {name!r} holds values of several types",
        where=where,
        expected="one type in a column",
        got=got,
        fix=f"convert it in the query: CAST({name} AS ...)",
    )


def _no_type(name: str, kind: type, where: str) -> _Column:
    raise SourceUnreadable(
        f"the column {name!r} holds values that no table can keep",
        where=where,
        expected="numbers, text, booleans, dates or times",
        got=kind.__name__,
        fix="leave it out of the query, or convert it there to text or a number",
    )


def _join(parts: Path, types: dict[str, pl.DataType], target: Path) -> None:
    """One Parquet file of all parts. A column without a single value becomes text."""
    schema = pl.Schema({name: _TEXT if dtype == pl.Null() else dtype for name, dtype in types.items()})
    frames = [pl.scan_parquet(part).cast(schema) for part in sorted(parts.iterdir())]
    pl.concat(frames).sink_parquet(target)


@contextmanager
def _database_errors(where: str) -> Iterator[None]:
    try:
        yield
    except sa_errors.DBAPIError as exc:
        raise _fault(exc, where) from exc


def _fault(exc: sa_errors.DBAPIError, where: str) -> PipelineError:
    state = getattr(exc.orig, "sqlstate", None) or getattr(exc.orig, "pgcode", None) or ""
    message = redact(" ".join(str(exc.orig).split()))
    for pattern, kind, what, fix in _FAULTS:
        if re.search(pattern, state or message, re.IGNORECASE):
            return kind(what, where=where, got=message, fix=fix)
    return SourceUnreadable("the database can't run the query", where=where, got=message, fix="correct the query")
