"""Airflow DAGs that Slack is told about; their tasks wait for files, so that a test says when they go on."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG

from ml_pipelines_airflow.notifications.slack import SlackRunNotifier, dag_callbacks, task_callbacks

LIMIT = timedelta(minutes=10)


def told(dag_id: str, **default_args: Any) -> DAG:
    """A DAG with a channel of its own."""
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


with told("recovers", retries=1, retry_delay=timedelta()):
    PythonOperator(task_id="flaky", python_callable=fail_once)

with told("breaks"):
    PythonOperator.partial(task_id="part", python_callable=fail_one).expand(op_args=[[0], [1], [2]])

with told("slow", sla=timedelta(seconds=5)):
    PythonOperator(task_id="wait", python_callable=wait) >> EmptyOperator(task_id="after")
