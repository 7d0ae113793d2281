"""Go back to an earlier version of a model: an Airflow DAG that is started by hand, with a form."""

from ml_pipelines_airflow import rollback_dag

dag = rollback_dag()
