"""Airflow's LocalExecutor, whose workers have imported already what tasks will need."""

from __future__ import annotations

from airflow.executors.local_executor import LocalExecutor

from ml_pipelines_airflow.execution.preload import preload

__all__ = ["WarmLocalExecutor"]


class WarmLocalExecutor(LocalExecutor):
    """As LocalExecutor, with `[ml_pipelines] preload` imported before its workers are forked.

    `[core] executor = ml_pipelines_airflow.execution.executors.WarmLocalExecutor`
    """

    def start(self) -> None:
        """Preload, then start the workers."""
        preload()
        super().start()
