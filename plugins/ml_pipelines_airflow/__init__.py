"""How Airflow sees ML Pipelines."""
