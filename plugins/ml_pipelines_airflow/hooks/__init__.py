"""Connections of types that this provider brings: `mlflow` and `dvc`."""
