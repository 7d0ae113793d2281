"""Forms of this provider's connection types, for Airflow's UI. This module imports no hook."""

from __future__ import annotations

from typing import Any

__all__ = ["CONNECTION_TYPES", "HOOKS"]

_TEXT = {"type": ["string", "null"]}
_SECRET = {**_TEXT, "format": "password"}

HOOKS: list[dict[str, Any]] = [
    {"integration-name": "MLflow", "python-modules": ["ml_pipelines_airflow.hooks.mlflow"]},
    {"integration-name": "DVC", "python-modules": ["ml_pipelines_airflow.hooks.dvc"]},
]

CONNECTION_TYPES: list[dict[str, Any]] = [
    {
        "connection-type": "mlflow",
        "hook-class-name": "ml_pipelines_airflow.hooks.mlflow.MLflowHook",
        "hook-name": "MLflow",
        "ui-field-behaviour": {
            "hidden-fields": ["extra"],
            "relabeling": {"host": "Tracking URI", "login": "User", "schema": "Protocol"},
            "placeholders": {
                "host": "https://mlflow.example.com, or sqlite:////data/mlflow.db",
                "schema": "https; only for a host name",
                "ui_url": "https://mlflow.example.com",
                "verify": "/etc/ssl/ca.pem, or false",
            },
        },
        "conn-fields": {
            "token": {"label": "Token", "description": "Instead of user and password.", "schema": _SECRET},
            "ui_url": {
                "label": "Address for browsers",
                "description": "Address of MLflow for browsers, if it differs from the tracking URI.",
                "schema": _TEXT,
            },
            "verify": {
                "label": "Trusted certificates",
                "description": "Path of a file on the workers; false trusts any server.",
                "schema": _TEXT,
            },
        },
    },
    {
        "connection-type": "dvc",
        "hook-class-name": "ml_pipelines_airflow.hooks.dvc.DvcHook",
        "hook-name": "DVC",
        "ui-field-behaviour": {
            "hidden-fields": ["extra", "port", "schema"],
            "relabeling": {"host": "Git repository", "login": "User", "password": "Password or token"},
            "placeholders": {
                "host": "https://github.com/team/data.git",
                "remote": "the repository's default",
                "remote_config": '{"access_key_id": "...", "secret_access_key": "..."}',
            },
        },
        "conn-fields": {
            "remote": {
                "label": "DVC remote",
                "description": "Name of the remote to download from.",
                "schema": _TEXT,
            },
            "remote_config": {
                "label": "Settings of the DVC remote",
                "description": "A JSON object, with the names of `dvc remote modify`. Kept secret.",
                "schema": _SECRET,
            },
        },
    },
]
