"""An Airflow DAG whose task returns the heavy modules that its process has imported."""

from __future__ import annotations

import sys

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG


def imported() -> list[str]:
    return [name for name in ("mlflow.sklearn", "pandas", "sklearn.ensemble") if name in sys.modules]


with DAG("warm", schedule=None):
    PythonOperator(task_id="look", python_callable=imported)
