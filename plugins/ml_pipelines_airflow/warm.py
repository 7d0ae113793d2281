"""Importing this preloads: workers do if `[celery] extra_celery_config` names it among its `imports`."""

from ml_pipelines_airflow.preload import preload

preload()
