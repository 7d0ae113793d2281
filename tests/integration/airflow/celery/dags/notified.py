"""Airflow DAGs with Slack messages, whose tasks wait for files of the tests."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG

from ml_pipelines_airflow.notifications.slack_callbacks import SlackRunNotifier, dag_callbacks, task_callbacks

LIMIT = timedelta(minutes=10)


def make_dag(dag_id: str, **default_args: Any) -> DAG:
    """Return a DAG with its own channel."""
    notifier = SlackRunNotifier(channel=f"#{dag_id}")
    common = {"owner": "tests", "retries": 0, "execution_timeout": LIMIT}
    arguments = common | task_callbacks(notifier) | default_args
    return DAG(dag_id, schedule=None, default_args=arguments, **dag_callbacks(notifier))


def wait(dag: DAG) -> None:
    file = Path(os.environ["AIRFLOW_HOME"], f"{dag.dag_id}.go")
    while not file.exists():
        time.sleep(0.1)


def fail_once(ti: Any, dag: DAG) -> None:
    if ti.try_number == 1:
        raise ConnectionError("the warehouse is down")
    wait(dag)


def fail_one(number: int) -> None:
    if number == 1:
        raise ValueError("part 1 is <empty>")


with make_dag("recovers", retries=1, retry_delay=timedelta()):
    PythonOperator(task_id="flaky", python_callable=fail_once)

with make_dag("breaks"):
    PythonOperator.partial(task_id="part", python_callable=fail_one).expand(op_args=[[0], [1], [2]])

with make_dag("slow", sla=timedelta(seconds=5)):
    PythonOperator(task_id="wait", python_callable=wait) >> EmptyOperator(task_id="after")
