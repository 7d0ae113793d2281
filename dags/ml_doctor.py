"""Can the workers of every queue do the work? An Airflow DAG that looks, when it is triggered."""

from ml_pipelines_airflow import doctor_dag

dag = doctor_dag()
