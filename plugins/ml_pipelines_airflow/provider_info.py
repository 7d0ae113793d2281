"""The description of this provider for Airflow."""

from __future__ import annotations

from typing import Any

from ml_pipelines_airflow.config import CONFIG
from ml_pipelines_airflow.hooks.connection_forms import CONNECTION_TYPES, HOOKS

__all__ = ["get_provider_info"]

_PACKAGE = __name__.rpartition(".")[0]
_PIPELINES, _MLFLOW, _DVC = "ML Pipelines", "MLflow", "DVC"


def get_provider_info() -> dict[str, Any]:
    """Return the description in the form of `airflow/provider_info.schema.json`.

    The plugin is not listed: it has an entry point, and a second registration would be an import error.
    """
    return {
        "package-name": "airflow-provider-ml-pipelines",
        "name": _PIPELINES,
        "description": "Declare a model in one YAML file, get a production training pipeline.",
        "integrations": [
            {"integration-name": _PIPELINES, "tags": ["software"]},
            {"integration-name": _MLFLOW, "external-doc-url": "https://mlflow.org/docs/latest/", "tags": ["software"]},
            {"integration-name": _DVC, "external-doc-url": "https://dvc.org/doc", "tags": ["software"]},
        ],
        "hooks": HOOKS,
        "connection-types": CONNECTION_TYPES,
        "operators": [_modules(_MLFLOW, "operators.models")],
        "sensors": [_modules(_MLFLOW, "sensors")],
        "triggers": [_modules(_PIPELINES, "triggers")],
        "bundles": [_modules(_PIPELINES, "bundles.package")],
        "notifications": [f"{_PACKAGE}.notifications.slack_callbacks.SlackRunNotifier"],
        "extra-links": [f"{_PACKAGE}.links.{name}" for name in ("MlflowRunLink", "ModelVersionLink", "ReportLink")],
        "asset-uris": [
            {"schemes": ["dvc"], "handler": f"{_PACKAGE}.assets.sanitize_dvc"},
            {"schemes": ["ml-pipelines"], "handler": f"{_PACKAGE}.assets.sanitize_ml_pipelines"},
            {"schemes": ["mlflow"], "handler": f"{_PACKAGE}.assets.sanitize_mlflow"},
        ],
        "config": CONFIG,
    }


def _modules(integration: str, *names: str) -> dict[str, Any]:
    return {"integration-name": integration, "python-modules": [f"{_PACKAGE}.{name}" for name in names]}
