"""From a build to a running Airflow: what a release is, whether it is served, and back to the one before if not."""
