"""Scores of all customers: an Airflow DAG from the declaration in the YAML file of the same name."""

from ml_pipelines_airflow import scoring_dag

dag = scoring_dag(__file__)
