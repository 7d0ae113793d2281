"""An interrupted creation of MLflow's tables can be repeated, and a database with data is never replaced."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import mlflow.store.db.utils as mlflow_database
import pytest
import sqlalchemy as sa
from mlflow import MlflowClient

from ml_pipelines.adapters.mlflow import sqlite_database as module
from ml_pipelines.adapters.mlflow.sqlite_database import database_file, sqlite_database

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def kill(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`kill(n)` ends the creation before its n-th statement."""
    remaining = [1 << 30]

    def count(*_: Any) -> None:
        remaining[0] -= 1
        if remaining[0] < 0:
            raise Killed

    sa.event.listen(sa.engine.Engine, "before_cursor_execute", count)
    yield lambda number: remaining.__setitem__(0, number)
    sa.event.remove(sa.engine.Engine, "before_cursor_execute", count)


def revision(file: Path) -> str:
    with closing(sqlite3.connect(file)) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def create(file: Path) -> None:
    with sqlite_database(f"sqlite:///{file}") as database:
        assert database == file


def test_an_address_has_a_file(tmp_path: Path) -> None:
    assert database_file(f"sqlite:///{tmp_path}/a.db?timeout=3") == tmp_path / "a.db"
    assert database_file("sqlite://") is database_file("sqlite:///:memory:") is database_file("http://host") is None
    with sqlite_database("http://host") as database:
        assert database is None


@pytest.mark.parametrize("before", [1, 40, 300])
def test_an_interrupted_creation_leaves_no_database(tmp_path: Path, kill: Any, before: int) -> None:
    file = tmp_path / "new folder" / "mlflow.db"
    kill(before)
    with pytest.raises(Killed):
        create(file)
    assert not file.exists()
    kill(1 << 30)
    create(file)
    assert revision(file) == module._last_revision()
    assert [path.name for path in file.parent.iterdir()] == ["mlflow.db"]


@pytest.mark.parametrize("before", [40, 300])
def test_an_unfinished_database_of_mlflow_is_created_again(tmp_path: Path, kill: Any, before: int) -> None:
    """As `mlflow server` leaves it behind when it is killed in its first seconds."""
    file = tmp_path / "mlflow.db"
    engine: Any = mlflow_database.create_sqlalchemy_engine(f"sqlite:///{file}")
    kill(before)
    with pytest.raises(Killed):
        mlflow_database._initialize_tables(engine)
    kill(1 << 30)
    engine.dispose()
    create(file)
    assert revision(file) == module._last_revision()
    assert MlflowClient(f"sqlite:///{file}").search_experiments()[0].name == "Default"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("finished") / "mlflow.db"
    create(file)
    return file.read_bytes()


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1",  # complete, and still without any data
        "UPDATE alembic_version SET version_num = 'x'; INSERT INTO experiments (experiment_id, name) VALUES (1, 'a')"
        "; INSERT INTO experiments (experiment_id, name) VALUES (2, 'b')",
        "UPDATE alembic_version SET version_num = 'x'; INSERT INTO registered_models (name) VALUES ('churn')",
        "UPDATE alembic_version SET version_num = 'x'; CREATE TABLE mine (x)",
    ],
)
def test_a_database_that_somebody_uses_stays(tmp_path: Path, finished: bytes, statement: str) -> None:
    file = tmp_path / "mlflow.db"
    file.write_bytes(finished)
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(statement)
    before = (file.read_bytes(), file.stat().st_ino)
    create(file)
    assert (file.read_bytes(), file.stat().st_ino) == before


def test_a_file_that_is_no_database_stays(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    file.write_bytes(b"something else" * 200)
    create(file)
    assert file.read_bytes() == b"something else" * 200
