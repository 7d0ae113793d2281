"""Importing this preloads: workers do if `[celery] extra_celery_config` names it among its `imports`."""

from __future__ import annotations

from ml_pipelines_airflow.execution.preload import preload

__all__ = ["preload"]

preload()
