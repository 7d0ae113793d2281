"""The options of the `[ml_pipelines]` section of Airflow's configuration, read when they are used."""

from __future__ import annotations

from typing import Any

__all__ = ["CONFIG", "enabled", "option"]

SECTION = "ml_pipelines"

CONFIG: dict[str, Any] = {
    SECTION: {
        "description": "ML Pipelines: where artifacts are kept, and which MLflow is used.",
        "options": {
            "store": {
                "description": "URI of the artifact store. Every worker must reach it: a shared folder (file://) or "
                "an object store (s3://). Empty: the folder ml_pipelines/store in AIRFLOW_HOME.",
                "version_added": "0.1.0",
                "type": "string",
                "example": "s3://ml-artifacts/store",
                "default": "",
            },
            "cells_per_group": {
                "description": "Cells (rows times columns) of a row group in the tables that steps write. It bounds "
                "the memory of the steps from ingest to split, whatever the size of the table: lower it for long "
                "texts. The rows are the same with any number.",
                "version_added": "0.1.0",
                "type": "integer",
                "example": "100000",
                "default": "800000",
            },
            "mlflow_conn_id": {
                "description": "Airflow connection whose host is MLflow's tracking URI. If there is no such "
                "connection, the environment variable MLFLOW_TRACKING_URI is used.",
                "version_added": "0.1.0",
                "type": "string",
                "example": None,
                "default": "mlflow_default",
            },
            "doctor_queues": {
                "description": "Queues whose workers the DAG ml_doctor looks at, with commas between. Empty: the "
                "default queue.",
                "version_added": "0.1.0",
                "type": "string",
                "example": "default,training",
                "default": "",
            },
            "docker_image": {
                "description": "The image in which steps run that are declared with `docker` and name none.",
                "version_added": "0.1.0",
                "type": "string",
                "example": "registry.example.com/ml-pipelines-training:0.1.0",
                "default": "ml-pipelines-training:latest",
            },
            "docker_network": {
                "description": "The engine's network for these containers: MLflow and the data must be reached from "
                "there. Empty: the engine's own default.",
                "version_added": "0.1.0",
                "type": "string",
                "example": "ml-pipelines",
                "default": "",
            },
            "docker_volumes": {
                "description": "Volumes or folders of the engine's host for these containers, as `source:target` and "
                "with commas between. A store in a folder must be there under the same path.",
                "version_added": "0.1.0",
                "type": "string",
                "example": "ml-pipelines-store:/opt/airflow/store",
                "default": "",
            },
            "ledger_conn_id": {
                "description": "Airflow connection of the database that keeps what became of every run: PostgreSQL or "
                "SQLite. If there is no such connection, the environment variable ML_PIPELINES_LEDGER is used, an "
                "SQLAlchemy URL; without that the file ml_pipelines/ledger.db in AIRFLOW_HOME, which is for one "
                "machine.",
                "version_added": "0.1.0",
                "type": "string",
                "example": None,
                "default": "ml_pipelines_ledger",
            },
            "sla_deadlines": {
                "description": "Watch over every DAG whose tasks have an sla, also by default_args: what is not "
                "finished that long after the run's start is told, once a run.",
                "version_added": "0.1.0",
                "type": "boolean",
                "example": None,
                "default": "True",
            },
            "sla_alert_failed_runs": {
                "description": "Tell of late tasks in runs that have failed too; there, tasks that failed are late.",
                "version_added": "0.1.0",
                "type": "boolean",
                "example": None,
                "default": "False",
            },
            "preload": {
                "description": "Modules that warm workers import before they fork, with commas between; `default` "
                "stands for what the steps are made of. Workers get warm by [celery] extra_celery_config or [core] "
                "executor, see ml_pipelines_airflow.execution.preload. Empty: none.",
                "version_added": "0.1.0",
                "type": "string",
                "example": "default,lightgbm",
                "default": "default",
            },
            "slack_conn_id": {
                "description": "Airflow connection by which late tasks are told of DAGs that have no Slack notifier "
                "of their own.",
                "version_added": "0.1.0",
                "type": "string",
                "example": None,
                "default": "slack_api_default",
            },
            "slack_channel": {
                "description": "The channel for that. Empty: late tasks are only logged, by the triggerer.",
                "version_added": "0.1.0",
                "type": "string",
                "example": "#ml-alerts",
                "default": "",
            },
        },
    }
}


def option(name: str) -> str:
    """The value of an option, as text."""
    from airflow.providers.common.compat.sdk import conf

    declared = CONFIG[SECTION]["options"][name]["default"]
    return str(conf.get(SECTION, name, fallback=declared))


def enabled(name: str) -> bool:
    """Whether a switch is on."""
    from airflow.providers.common.compat.sdk import conf

    return bool(conf.getboolean(SECTION, name, fallback=CONFIG[SECTION]["options"][name]["default"]))
