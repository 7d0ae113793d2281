"""Has the data moved away from the model: an Airflow DAG from the declaration in the YAML file of the same name."""

from ml_pipelines_airflow import drift_dag

dag = drift_dag(__file__)
