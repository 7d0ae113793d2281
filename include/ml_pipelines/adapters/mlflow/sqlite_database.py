"""Create the tables of MLflow's SQLite database in a new file, so that an interrupted creation can be repeated.

MLflow creates tables and then runs dozens of migrations, each in a transaction of its own. A process that is killed
among them leaves a file that MLflow can neither use nor complete.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

__all__ = ["database_file", "sqlite_database"]

_SQLITE = "sqlite:///"
_OWN_TABLES = frozenset({"alembic_version", "sqlite_sequence"})
_SIDE_FILES = ("", "-journal", "-wal", "-shm")
# MLflow itself writes one row into each of these when it first opens a database.
_FIRST_ROWS = {"experiments", "workspaces"}


def database_file(uri: str) -> Path | None:
    """Return the file of an SQLite address; None for another address."""
    if not uri.startswith(_SQLITE):
        return None
    name = uri.removeprefix(_SQLITE).partition("?")[0]
    return Path(name).absolute() if name and name != ":memory:" else None


@contextmanager
def sqlite_database(uri: str) -> Iterator[Path | None]:
    """Lock an SQLite database on this machine within the block, with its tables; yields its file.

    Without an SQLite file, it does nothing and yields None.
    """
    file = database_file(uri)
    if file is None:
        yield None
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(file.parent, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_unfinished(file):
            _create(file)
        yield file
    finally:
        os.close(lock)


def _create(file: Path) -> None:
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine

    # Always the same name: a creation that was killed leaves one file, which the next one replaces.
    new = file.with_name(f"{file.name}.new")
    _remove(new)
    engine = create_sqlalchemy_engine(f"{_SQLITE}{new}")  # type: ignore[no-untyped-call]  # MLflow has no types here
    try:
        _initialize_tables(engine)  # type: ignore[no-untyped-call]
    finally:
        engine.dispose()
    new.replace(file)


def _remove(file: Path) -> None:
    for suffix in _SIDE_FILES:
        file.with_name(f"{file.name}{suffix}").unlink(missing_ok=True)


def _is_unfinished(file: Path) -> bool:
    """Return whether a database does not exist, or holds no data and was not created to its end."""
    if not file.exists() or file.stat().st_size == 0:
        return True
    try:
        # Opened for writing: SQLite then completes or reverts a transaction that was interrupted.
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=60)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            return not tables or (_is_empty(connection, tables) and _revision(connection, tables) != _last_revision())
    except sqlite3.Error:
        return False  # MLflow reports what is wrong with it


def _is_empty(connection: sqlite3.Connection, tables: set[str]) -> bool:
    """Return whether there are only tables of MLflow, without any data of users."""
    import mlflow.store.db.utils  # noqa: F401  # declares the tables
    from mlflow.store.db.base_sql_model import Base

    declared = {*Base.metadata.tables, *_OWN_TABLES}
    if any(name not in declared and not name.startswith("_alembic_tmp_") for name in tables):
        return False
    query = 'SELECT count(*) FROM (SELECT 1 FROM "{}" LIMIT 2)'
    counts = {name: connection.execute(query.format(name)).fetchone()[0] for name in tables - _OWN_TABLES}
    return all(count <= (name in _FIRST_ROWS) for name, count in counts.items())


def _revision(connection: sqlite3.Connection, tables: set[str]) -> str | None:
    if "alembic_version" not in tables:
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])


def _last_revision() -> str:
    from mlflow.store.db.utils import _get_latest_schema_revision

    return str(_get_latest_schema_revision())  # type: ignore[no-untyped-call]
