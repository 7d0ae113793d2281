"""Training of the churn model: an Airflow DAG from the YAML file with the same name."""

from ml_pipelines_airflow import training_dag

dag = training_dag(__file__)
