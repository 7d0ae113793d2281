"""`sla` on tasks of DAGs without this package, with `airflow standalone` and a fake Slack server."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tests.integration.airflow.server import STANDALONE, Server, run_id_of, standalone

from ml_pipelines_airflow.fake_slack import Message, SlackServer

pytestmark = [pytest.mark.xdist_group("airflow-standalone"), pytest.mark.timeout(900)]

# The tasks of all DAGs wait for a file of the test, or do nothing.
EVENTS = '''"""Tasks that wait for the test."""
import os
import time
from pathlib import Path


def wait_for(name):
    while not (Path(os.environ["SLA_TEST_EVENTS"]) / name).exists():
        time.sleep(0.1)
'''

# A pipeline for Airflow 2 with the imports and the `schedule` of 3.3 and empty functions.
WITHOUT_PACKAGE = """
from airflow.sdk import DAG
from airflow.providers.standard.operators.python import PythonOperator
from datetime import datetime, timedelta
from events import wait_for

def slack_alert_failure(context):
    pass

def slack_alert_success(context):
    pass

default_args = {
    'owner': 'data-science-team',
    'depends_on_past': False,
    'retries': 3,
    'retry_delay': timedelta(minutes=5),
    'execution_timeout': timedelta(hours=2),
    'sla': timedelta(seconds=12),
    'on_failure_callback': slack_alert_failure,
    'on_success_callback': slack_alert_success,
}

dag = DAG(
    'ml_training_pipeline',
    default_args=default_args,
    description='End-to-end ML training pipeline',
    schedule='0 2 * * 0',  # Weekly at 2 AM Sunday
    start_date=datetime(2026, 1, 1),
    catchup=False,
    tags=['ml', 'production', 'churn'],
)

def ingest_data(**context):
    context['ti'].xcom_push(key='data_path', value='/tmp/customers.csv')

def preprocess_data(**context):
    context['ti'].xcom_pull(key='data_path', task_ids='ingest_data')

def train_model(**context):
    wait_for('trained')

def evaluate_model(**context):
    pass

def register_and_deploy(**context):
    pass

# Define tasks
ingest = PythonOperator(
    task_id='ingest_data',
    python_callable=ingest_data,
    dag=dag,
)

preprocess = PythonOperator(
    task_id='preprocess_data',
    python_callable=preprocess_data,
    dag=dag,
)

train = PythonOperator(
    task_id='train_model',
    python_callable=train_model,
    dag=dag,
)

evaluate = PythonOperator(
    task_id='evaluate_model',
    python_callable=evaluate_model,
    dag=dag,
)

deploy = PythonOperator(
    task_id='register_and_deploy',
    python_callable=register_and_deploy,
    dag=dag,
)

# Define dependencies
ingest >> preprocess >> train >> evaluate >> deploy
"""

SLAS_ON_TASKS = """
from datetime import timedelta
from airflow.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.python import BranchPythonOperator, PythonOperator
from events import wait_for
from ml_pipelines_airflow.notifications.slack_callbacks import SlackRunNotifier

def choose():
    return "slow"

def fit(name):
    if name == "stuck":
        wait_for("fitted")

def wait_for_slow():
    wait_for("slow")

with DAG("slas_on_tasks", schedule=None,
         default_args={"on_failure_callback": [SlackRunNotifier(channel="#team")]}) as dag:
    branch = BranchPythonOperator(task_id="branch", python_callable=choose)
    slow = PythonOperator(task_id="slow", python_callable=wait_for_slow)
    left_out = EmptyOperator(task_id="left_out", sla=timedelta(seconds=1))
    after = EmptyOperator(task_id="after", sla=timedelta(seconds=1))
    fits = PythonOperator.partial(task_id="fit", python_callable=fit, sla=timedelta(seconds=14)).expand(
        op_args=[["quick"], ["stuck"]])
    branch >> [slow, left_out]
    slow >> after
"""

PUNCTUAL = """
from datetime import timedelta
from airflow.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator

with DAG("punctual", schedule=None, default_args={"sla": timedelta(minutes=4)}) as dag:
    EmptyOperator(task_id="first") >> EmptyOperator(task_id="last")
"""

BROKEN = """
from datetime import timedelta
from airflow.sdk import DAG
from airflow.providers.standard.operators.python import PythonOperator
from events import wait_for

with DAG("broken", schedule=None, default_args={"sla": timedelta(seconds=14)}) as dag:
    PythonOperator(task_id="first", python_callable=lambda: wait_for("never"), retries=2)
"""

DAGS = {"ml_training_pipeline": WITHOUT_PACKAGE, "slas_on_tasks": SLAS_ON_TASKS, "punctual": PUNCTUAL, "broken": BROKEN}


def create_event(server: Server, event: str) -> None:
    (server.root / "events" / event).touch()


def callback_outputs(server: Server, dag: str) -> list[tuple[Any, ...]]:
    """Wait for the callbacks of a DAG's deadlines and return their outputs."""

    def outputs() -> list[tuple[Any, ...]]:
        callbacks = rows_of(server, deadlines(dag, "callback.state, output"))
        return [(output,) for _, output in callbacks] if all(state == "success" for state, _ in callbacks) else []

    return list(server.until("end of the callbacks", outputs))


def rows_of(server: Server, query: str) -> list[tuple[Any, ...]]:
    return rows(server.root / "home" / "airflow.db", query)


def rows(database: Path, query: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(database, timeout=60)) as connection:
        return connection.execute(query).fetchall()


def deadlines(dag: str, columns: str) -> str:
    return (
        f"select {columns} from deadline join dag_run on deadline.dagrun_id = dag_run.id "  # noqa: S608  constants of this file
        f"left join callback on deadline.callback_id = callback.id where dag_run.dag_id = '{dag}'"
    )


def late_in(message: Message) -> dict[str, str]:
    """Return the text of each late task in a message."""
    return dict(re.findall(r"^\*(\S+)\* late (.*)$", message.shown, re.MULTILINE))


def add_dags(airflow: Any) -> dict[str, str]:
    for name, text in {**DAGS, "events": EVENTS}.items():
        (airflow.root / "dags" / f"{name}.py").write_text(text)
    (airflow.root / "dags" / ".airflowignore").write_text("events.py\n")
    (airflow.root / "events").mkdir()
    return {"SLA_TEST_EVENTS": str(airflow.root / "events")}


@pytest.fixture(scope="module")
def server(make_airflow: Callable[[], Any]) -> Iterator[Server]:
    airflow = make_airflow()
    settings = {
        **add_dags(airflow),
        "AIRFLOW__CORE__PARALLELISM": "5",
        "AIRFLOW__ML_PIPELINES__SLACK_CHANNEL": "#ml-alerts",
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
    }
    with SlackServer() as slack, standalone(airflow, *DAGS, slack=slack, **settings) as running:
        running.unpause(*DAGS)
        yield running


@pytest.fixture(scope="module")
def runs(server: Server) -> dict[str, str]:
    """One run of each DAG, all at the same time, so that the tests wait only once for the SLAs."""
    first = {"logical_date": "2026-11-01T00:00:00Z"}
    broken = server.trigger("broken", **first)
    # Set to failed at once, because the time to a real failure depends on the machine.
    server.call("PATCH", f"{broken}/taskInstances/first", {"new_state": "failed"})
    return {"broken": broken, **{name: server.trigger(name, **first) for name in DAGS if name != "broken"}}


def test_dag_files_import(server: Server) -> None:
    assert server.call("GET", "/importErrors")["import_errors"] == []


def test_dag_without_the_package_gets_one_alert(server: Server, runs: dict[str, str]) -> None:
    run = runs["ml_training_pipeline"]
    message = server.message("ml-alerts", "ml_training_pipeline", r"\*register_and_deploy\* late")
    late = late_in(message)
    ((due,),) = rows_of(server, deadlines("ml_training_pipeline", "deadline_time"))
    tasks = set(server.states(run))
    assert {"train_model", "evaluate_model", "register_and_deploy"} <= set(late) <= tasks
    assert f"due {datetime.fromisoformat(due):%Y-%m-%d %H:%M} UTC, SLA 12 s" in late["train_model"]
    assert re.search(r": (train_model|preprocess_data|ingest_data) (is|has) ", late["evaluate_model"])
    create_event(server, "trained")
    assert server.end_of(run) == "success"
    assert len([message for message in server.messages if "ml_training_pipeline" in message.shown]) == 1


def test_alert_is_in_the_log_of_the_triggerer(server: Server, runs: dict[str, str]) -> None:
    sentence = f"SLA missed in DAG ml_training_pipeline, run {run_id_of(runs['ml_training_pipeline'])}: "
    log = server.log(STANDALONE)
    assert server.until("line in the log", lambda: sentence in log.read_text(errors="replace"))
    ((output,),) = callback_outputs(server, "ml_training_pipeline")
    assert output.startswith(sentence)


def test_two_slas_have_one_message_in_the_channel_of_the_dag(server: Server, runs: dict[str, str]) -> None:
    run = runs["slas_on_tasks"]
    message = server.message("team", "slas_on_tasks", r"\*after\* late", r"\*fit\[1\]\* late")
    late = late_in(message)
    assert "SLA 1 s" in late["after"]
    assert re.search(r": (branch|slow) (has not started|is \w+|has been running for [\d.]+ m?i?[ns].*)$", late["after"])
    assert re.match(r"\((running|queued|scheduled|not started)\)", late["fit[1]"])
    assert ": " not in late["fit[1]"]  # it has no upstream task
    assert "slow" not in late  # it has no SLA
    assert len(callback_outputs(server, "slas_on_tasks")) == 2
    create_event(server, "slow")
    create_event(server, "fitted")
    assert server.end_of(run) == "success"
    assert server.states(run)["left_out"] == "skipped"
    assert server.message("team", r"\*after\* late") is message


def test_run_within_its_sla_has_no_alert(server: Server, runs: dict[str, str]) -> None:
    assert server.end_of(runs["punctual"]) == "success"
    assert rows_of(server, deadlines("punctual", "missed")) == []
    assert not [message for message in server.messages if "punctual" in message.shown]


def test_failed_run_has_no_alert(server: Server, runs: dict[str, str]) -> None:
    assert server.end_of(runs["broken"]) == "failed"
    assert callback_outputs(server, "broken") == [(None,)]
    assert not [message for message in server.messages if "broken" in message.shown]


def test_parsing_again_creates_no_dag_version(server: Server, runs: dict[str, str]) -> None:
    for _ in range(3):
        for name in ("ml_training_pipeline", "slas_on_tasks"):
            server.parse(name)
    for name in DAGS:
        assert server.call("GET", f"/dags/{name}/dagVersions")["total_entries"] == 1, name
    assert rows_of(server, "select count(*) from deadline_alert") == [(5,)]


def test_no_log_has_the_warning_about_slas(server: Server, runs: dict[str, str]) -> None:
    logs = [server.log(STANDALONE), *(server.root / "home" / "logs").rglob("*.log")]
    assert len(logs) > len(DAGS)
    assert [path for path in logs if "The SLA feature" in path.read_text(errors="replace")] == []


def test_dags_test_succeeds_and_stores_the_deadlines(make_airflow: Callable[[], Any]) -> None:
    airflow = make_airflow()
    environment = airflow.environment | add_dags(airflow)
    for event in ("slow", "fitted"):
        (airflow.root / "events" / event).touch()
    command = ["airflow", "dags", "test", "slas_on_tasks"]
    process = subprocess.run(command, env=environment, cwd=airflow.root, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "The SLA feature" not in process.stdout + process.stderr
    database = airflow.root / "home" / "airflow.db"
    stored = "select name from deadline_alert join serialized_dag on serialized_dag_id = serialized_dag.id "
    stored += "where dag_id = 'slas_on_tasks' order by name"
    assert rows(database, stored) == [("SLA 0:00:01",), ("SLA 0:00:14",)]
    assert rows(database, "select state from dag_run where dag_id = 'slas_on_tasks'") == [("success",)]
    assert rows(database, "select count(*) from deadline") == [(0,)]
    assert rows(database, "select distinct version_number from dag_version") == [(1,)]
