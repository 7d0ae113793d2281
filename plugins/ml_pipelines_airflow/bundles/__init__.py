"""DAG bundles from installed packages."""
