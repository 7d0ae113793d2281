"""Check a worker of every queue: an Airflow DAG without a schedule."""

from ml_pipelines_airflow import doctor_dag

dag = doctor_dag()
