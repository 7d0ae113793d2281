"""Customer churn: an Airflow DAG from the declaration in the YAML file of the same name."""

from ml_pipelines_airflow.dag_builders.training import training_dag

dag = training_dag(__file__)
