"""Record external changes of champions, for example in MLflow's UI: an Airflow DAG that runs every ten minutes."""

from ml_pipelines_airflow import registry_watch_dag

dag = registry_watch_dag()
