"""Roll a model back to an earlier version: an Airflow DAG with a form and without a schedule."""

from ml_pipelines_airflow import rollback_dag

dag = rollback_dag()
