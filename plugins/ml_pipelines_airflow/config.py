"""The options of the section `[ml_pipelines]` in Airflow's configuration. They are read on use."""

from __future__ import annotations

import os
from typing import Any

__all__ = ["CONFIG", "enabled", "export_allow_lists", "option"]

SECTION = "ml_pipelines"

CONFIG: dict[str, Any] = {
    SECTION: {
        "description": "ML Pipelines: artifact store, ledger, MLflow, containers, SLA alerts and preloaded workers.",
        "options": {
            "store": {
                "description": "URI of the artifact store, a shared folder (file://) or an object store (s3://). Every "
                "worker must have access. Empty: the folder ml_pipelines/store in AIRFLOW_HOME.",
                "version_added": "0.1.0",
                "type": "string",
                "example": "s3://ml-artifacts/store",
                "default": "",
            },
            "cells_per_group": {
                "description": "Number of cells (rows times columns) in a row group of the tables that steps write. It "
                "limits the memory of the steps from ingest to split for tables of any size. Lower it for columns with "
                "long texts. It does not change the rows.",
                "version_added": "0.1.0",
                "type": "integer",
                "example": "100000",
                "default": "800000",
            },
            "mlflow_conn_id": {
                "description": "Airflow connection whose host is the tracking URI of MLflow. Without such a "
                "connection, the environment variable MLFLOW_TRACKING_URI is used.",
                "version_added": "0.1.0",
                "type": "string",
                "example": None,
                "default": "mlflow_default",
            },
            "ledger_conn_id": {
                "description": "Airflow connection of the ledger's database, PostgreSQL or SQLite. Without such a "
                "connection, the environment variable ML_PIPELINES_LEDGER is used, an SQLAlchemy URL. Without both, "
                "the file ml_pipelines/ledger.db in AIRFLOW_HOME is used, which is for one machine.",
                "version_added": "0.1.0",
                "type": "string",
                "example": None,
                "default": "ml_pipelines_ledger",
            },
            "code_packages": {
                "description": "Import names of further packages and modules whose code a declaration may name, "
                "separated by commas: estimators, transforms, checks and metrics. Without a value, the environment "
                "variable ML_PIPELINES_CODE_PACKAGES is used. scikit-learn, LightGBM, XGBoost and CatBoost are "
                "always allowed.",
                "version_added": "0.2.0",
                "type": "string",
                "example": "ngboost,shop_features",
                "default": "",
            },
            "code_pickle": {
                "description": "Whether estimators of `code_packages` whose types are not trusted may be stored as "
                "pickles: allow or forbid. Without a value, the environment variable ML_PIPELINES_CODE_PICKLE is used, "
                "and without both they may.",
                "version_added": "0.2.0",
                "type": "string",
                "example": "forbid",
                "default": "",
            },
            "environment_variables": {
                "description": "Names of further environment variables that a declaration may name as ${NAME}, "
                "separated by commas; a name that ends in * is a prefix. Without a value, the environment variable "
                "ML_PIPELINES_ENVIRONMENT_VARIABLES is used. Variables that begin with ML_DATA_ are always allowed, "
                "settings of Airflow, MLflow and ML Pipelines never.",
                "version_added": "0.2.0",
                "type": "string",
                "example": "WAREHOUSE_HOST,SHOP_*",
                "default": "",
            },
            "doctor_queues": {
                "description": "Queues whose workers the DAG ml_doctor checks, separated by commas. Empty: the default "
                "queue.",
                "version_added": "0.1.0",
                "type": "string",
                "example": "default,training",
                "default": "",
            },
            "docker_image": {
                "description": "Image of tasks with `docker` in the declaration that name no image.",
                "version_added": "0.1.0",
                "type": "string",
                "example": "registry.example.com/ml-pipelines-training:0.1.0",
                "default": "ml-pipelines-training:latest",
            },
            "docker_network": {
                "description": "Docker network of these containers, from which MLflow and the data must be reachable. "
                "Empty: Docker's default network.",
                "version_added": "0.1.0",
                "type": "string",
                "example": "ml-pipelines",
                "default": "",
            },
            "docker_volumes": {
                "description": "Volumes or folders of the Docker host for these containers, as `source:target` and "
                "separated by commas. A store in a folder must have the same path in the containers.",
                "version_added": "0.1.0",
                "type": "string",
                "example": "ml-pipelines-store:/opt/airflow/store",
                "default": "",
            },
            "sla_deadlines": {
                "description": "Monitor every DAG whose tasks have an `sla`, also from default_args. One alert per run "
                "lists the tasks that did not finish within their SLA after the start of the run.",
                "version_added": "0.1.0",
                "type": "boolean",
                "example": None,
                "default": "True",
            },
            "sla_alert_failed_runs": {
                "description": "Send the alert for failed runs too. In these runs, failed tasks count as late.",
                "version_added": "0.1.0",
                "type": "boolean",
                "example": None,
                "default": "False",
            },
            "slack_conn_id": {
                "description": "Airflow connection for the SLA alerts of DAGs without a Slack notifier.",
                "version_added": "0.1.0",
                "type": "string",
                "example": None,
                "default": "slack_api_default",
            },
            "slack_channel": {
                "description": "Slack channel for the SLA alerts of DAGs without a Slack notifier. Empty: the "
                "triggerer only logs these alerts.",
                "version_added": "0.1.0",
                "type": "string",
                "example": "#ml-alerts",
                "default": "",
            },
            "preload": {
                "description": "Modules that warm workers import before they fork, separated by commas; `default` "
                "stands for the modules of the steps. [celery] extra_celery_config or [core] executor enables warm "
                "workers, see ml_pipelines_airflow.execution.preload. Empty: no modules.",
                "version_added": "0.1.0",
                "type": "string",
                "example": "default,lightgbm",
                "default": "default",
            },
        },
    }
}


def option(name: str) -> str:
    """Return the value of an option as text."""
    from airflow.providers.common.compat.sdk import conf

    default = CONFIG[SECTION]["options"][name]["default"]
    return str(conf.get(SECTION, name, fallback=default))


def enabled(name: str) -> bool:
    """Return the value of a boolean option."""
    from airflow.providers.common.compat.sdk import conf

    return bool(conf.getboolean(SECTION, name, fallback=CONFIG[SECTION]["options"][name]["default"]))


def export_allow_lists() -> None:
    """Copy the options about code and variables into the environment variables that the core reads.

    Smoke tests and training containers inherit these. Call this before a declaration is read or a step runs.
    """
    from ml_pipelines.spec.code_packages import PACKAGES_VARIABLE, PICKLE_VARIABLE
    from ml_pipelines.spec.environment_variables import VARIABLES_VARIABLE

    variables = {
        "code_packages": PACKAGES_VARIABLE,
        "code_pickle": PICKLE_VARIABLE,
        "environment_variables": VARIABLES_VARIABLE,
    }
    for name, variable in variables.items():
        if value := option(name):
            os.environ[variable] = value
