"""Airflow DAGs, operators and notifications for the pipelines of `ml_pipelines`.

This module is the public interface. Its names are imported on first use: Airflow loads the package in every process.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ml_pipelines_airflow.assets import dataset_asset, drift_asset, model_asset, scores_asset
    from ml_pipelines_airflow.bundles.package import PackageDagBundle
    from ml_pipelines_airflow.dag_builders.doctor import doctor_dag
    from ml_pipelines_airflow.dag_builders.drift import drift_dag
    from ml_pipelines_airflow.dag_builders.registry_watch import registry_watch_dag
    from ml_pipelines_airflow.dag_builders.rollback import rollback_dag
    from ml_pipelines_airflow.dag_builders.scoring import scoring_dag
    from ml_pipelines_airflow.dag_builders.training import training_dag
    from ml_pipelines_airflow.execution.warm_local_executor import WarmLocalExecutor
    from ml_pipelines_airflow.hooks.dvc import DvcHook
    from ml_pipelines_airflow.hooks.mlflow import MLflowHook
    from ml_pipelines_airflow.notifications.email import email_callback
    from ml_pipelines_airflow.notifications.slack_callbacks import SlackRunNotifier, dag_callbacks, task_callbacks
    from ml_pipelines_airflow.operators.models import PromoteModelOperator, RollbackModelOperator, WatchRegistryOperator
    from ml_pipelines_airflow.sensors import ModelAliasSensor
    from ml_pipelines_airflow.triggers import DvcRevisionTrigger, ModelAliasTrigger

__all__ = [
    "DvcHook",
    "DvcRevisionTrigger",
    "MLflowHook",
    "ModelAliasSensor",
    "ModelAliasTrigger",
    "PackageDagBundle",
    "PromoteModelOperator",
    "RollbackModelOperator",
    "SlackRunNotifier",
    "WarmLocalExecutor",
    "WatchRegistryOperator",
    "dag_callbacks",
    "dataset_asset",
    "doctor_dag",
    "drift_asset",
    "drift_dag",
    "email_callback",
    "model_asset",
    "registry_watch_dag",
    "rollback_dag",
    "scores_asset",
    "scoring_dag",
    "task_callbacks",
    "training_dag",
]

# Submodule -> the public names that it defines. A test compares this table with the imports above.
_MODULES: dict[str, tuple[str, ...]] = {
    "assets": (
        "dataset_asset",
        "drift_asset",
        "model_asset",
        "scores_asset",
    ),
    "bundles.package": ("PackageDagBundle",),
    "dag_builders.doctor": ("doctor_dag",),
    "dag_builders.drift": ("drift_dag",),
    "dag_builders.registry_watch": ("registry_watch_dag",),
    "dag_builders.rollback": ("rollback_dag",),
    "dag_builders.scoring": ("scoring_dag",),
    "dag_builders.training": ("training_dag",),
    "execution.warm_local_executor": ("WarmLocalExecutor",),
    "hooks.dvc": ("DvcHook",),
    "hooks.mlflow": ("MLflowHook",),
    "notifications.email": ("email_callback",),
    "notifications.slack_callbacks": (
        "SlackRunNotifier",
        "dag_callbacks",
        "task_callbacks",
    ),
    "operators.models": (
        "PromoteModelOperator",
        "RollbackModelOperator",
        "WatchRegistryOperator",
    ),
    "sensors": ("ModelAliasSensor",),
    "triggers": (
        "DvcRevisionTrigger",
        "ModelAliasTrigger",
    ),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return __all__
