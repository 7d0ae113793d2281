"""Check DAGs, deploy a release to a running Airflow, verify it, and roll it back on failure."""
