"""Customer churn: an Airflow DAG from the declaration in the YAML file of the same name."""

from ml_pipelines_airflow import training_dag

dag = training_dag(__file__)
