"""Every declared text at its limit is written to PostgreSQL, which refuses what SQLite stores silently.

One refused text stops the update of all DAGs of a deployment. An invalid declaration must therefore be an import error
of its own file, and nothing else.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import sqlalchemy as sa
from tests.integration.airflow.conftest import AIRFLOW, DECLARATION, Airflow

from ml_pipelines.spec.cron import MAX_LENGTH

pytestmark = pytest.mark.timeout(600)

NAME = "n" * 200
# The expression of this length whose description by Airflow is the longest that a search over all fields finds.
CRON = f"0 0 10 {','.join(['9-9'] * 14)} 3"
LINE = "é数🎉Ω"
LIMITS: dict[str, Any] = {
    "description": (LINE * 500)[:2000],
    "tags": [(f"{number}{LINE * 25}")[:100] for number in range(5)],
    "default_args": {"owner": (LINE * 125)[:500], "email": [f"{'a' * 318}@b"], "sla": "1h"},
    "alerts": {"slack": {"connection": "c" * 250, "channel": f"#{'x' * 249}"}},
}
RUNTIME = {"queue": (LINE * 63)[:250], "pool": (LINE * 63)[:250], "docker": {"image": "i" * 500}}
PATH = f"{'é' * 199}aa.csv"  # 1200 characters when encoded for the URI of an asset

INVALID: dict[str, dict[str, Any]] = {
    "null_description": {"description": "a\0b"},
    "null_tag": {"tags": ["a\0b"]},
    "null_owner": {"default_args": {"owner": "a\0b"}},
    "long_owner": {"default_args": {"owner": "x" * 3000}},
    "long_tag": {"tags": ["x" * 101]},
    "long_cron": {"schedule": {"cron": f"0 0 1 {','.join(['1-2'] * 5000)} *"}},
    "described_cron": {"schedule": {"cron": f"0 0 1 {','.join(['1-2'] * 47)} *"}},
    "null_channel": {"alerts": {"slack": {"channel": "#\0"}}},
    "null_parameter": {
        "candidates": [{"name": "a", "estimator": "sklearn.linear_model.Ridge", "params": {"a\0": "\0"}}]
    },
    "null_column": {"data": {**DECLARATION["data"], "ignore": ["a\0b"]}},
    "long_pool": {"runtime": {"train_model": {"pool": "x" * 300}}},
}


@pytest.fixture(scope="module")
def stored(
    make_airflow: Callable[..., Airflow], postgres_server: Callable[..., AbstractContextManager[str]]
) -> Iterator[sa.Connection]:
    """The database after Airflow has parsed and stored all of these files once."""
    airflow = make_airflow(database=False)
    model = {"name": "m" * 200, "task": "classification"}
    data = {**DECLARATION["data"], "dvc": {"repo": "/data", "path": PATH}}
    del data["file"]
    schedule = {"cron": CRON, "timezone": "America/Argentina/ComodRivadavia", "on_new_data": "1h", "on_drift": True}
    airflow.add_pipeline(
        NAME,
        **LIMITS,
        model=model,
        data=data,
        schedule=schedule,
        runtime={"train_model": RUNTIME, "ingest_data": RUNTIME},
    )
    airflow.add_scoring(
        f"s{NAME[1:]}",
        **LIMITS,
        model={"name": "m" * 200, "alias": LINE * 62},
        data={"file": {"path": f"/{LINE * 1000}.csv"}, "key": LINE * 100},
        shards={"count": 1},
        schedule={"cron": CRON, "on_champion": True},
        runtime={"score_shard": RUNTIME},
    )
    airflow.add_drift(
        f"d{NAME[1:]}",
        **LIMITS,
        model={"name": "m" * 200},
        watch=f"s{NAME[1:]}",
        schedule={"cron": CRON, "on_scores": True},
        runtime={"measure_drift": RUNTIME},
    )
    airflow.add_pipeline("plain")
    for name, sections in INVALID.items():
        airflow.add_pipeline(name, **sections)
    with postgres_server() as url:
        environment = airflow.environment | {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url}
        for command in (["db", "migrate"], ["dags", "reserialize"]):
            subprocess.run([AIRFLOW, *command], env=environment, check=True, capture_output=True)
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            yield connection


def test_an_invalid_declaration_is_an_import_error_of_its_own_file(stored: sa.Connection) -> None:
    rows = stored.execute(sa.text("select filename, stacktrace from import_error"))
    errors = {row.filename: row.stacktrace for row in rows}
    assert set(errors) == {f"{name}.py" for name in INVALID}
    for name in INVALID:
        assert f"{name}.yaml" in errors[f"{name}.py"]
        assert "ml_pipelines.errors.SpecError" in errors[f"{name}.py"]


def test_all_other_declarations_are_stored_with_their_texts(stored: sa.Connection) -> None:
    names = {NAME, f"s{NAME[1:]}", f"d{NAME[1:]}", "plain"}
    query = "select dag_id, description, owners, timetable_description from dag"
    rows = {row.dag_id: row for row in stored.execute(sa.text(query))}
    assert set(rows) == names
    assert set(stored.execute(sa.text("select dag_id from serialized_dag")).scalars()) == names
    for name in names - {"plain"}:
        assert rows[name].description == LIMITS["description"]
        assert rows[name].owners == LIMITS["default_args"]["owner"]
        tags = stored.execute(sa.text("select name from dag_tag where dag_id = :name"), {"name": name}).scalars()
        assert set(tags) == set(LIMITS["tags"])
    longest = max(len(row.timetable_description or "") for row in rows.values())
    assert len(CRON) == MAX_LENGTH
    assert 900 <= longest <= 1000
