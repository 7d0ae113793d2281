"""Batch scoring of all customers: an Airflow DAG from the YAML file with the same name."""

from ml_pipelines_airflow import scoring_dag

dag = scoring_dag(__file__)
