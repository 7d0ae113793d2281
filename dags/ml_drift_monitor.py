"""Drift monitoring of the churn model: an Airflow DAG from the YAML file with the same name."""

from ml_pipelines_airflow import drift_dag

dag = drift_dag(__file__)
