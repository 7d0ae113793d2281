"""Preload on import, for the `imports` of `[celery] extra_celery_config`."""

from __future__ import annotations

from ml_pipelines_airflow.execution.preload import preload

__all__ = ["preload"]

preload()
