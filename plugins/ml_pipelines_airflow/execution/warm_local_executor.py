"""A LocalExecutor with preloaded workers."""

from __future__ import annotations

from airflow.executors.local_executor import LocalExecutor

from ml_pipelines_airflow.execution.preload import preload

__all__ = ["WarmLocalExecutor"]


class WarmLocalExecutor(LocalExecutor):
    """A LocalExecutor that imports the modules of `[ml_pipelines] preload` before it forks its workers.

    `[core] executor = ml_pipelines_airflow.execution.warm_local_executor.WarmLocalExecutor`
    """

    def start(self) -> None:
        """Preload, then start the workers."""
        preload()
        super().start()
