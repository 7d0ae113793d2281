"""Notice a champion that was moved outside, in MLflow's pages say: an Airflow DAG that looks every ten minutes."""

from ml_pipelines_airflow import registry_watch_dag

dag = registry_watch_dag()
