"""State of a worker process and of the forks that run its tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ml_pipelines._utils.garbage_collection import limit_garbage_collection, skip_final_collection
from ml_pipelines.contracts import Identity

if TYPE_CHECKING:
    from ml_pipelines.services.connected import ConnectedServices
    from ml_pipelines.services.settings import Settings

__all__ = ["Process", "current"]


@dataclass(slots=True)
class Process:
    """State of this process.

    Attributes:
        forks: whether this is a preloaded worker or a fork of one, which ends with its task. The smoke test of a model
            then runs in a fork of the task, which needs no imports.
        test: key and services of a run of `airflow dags test`, which runs all its tasks in this process.
    """

    forks: bool = False
    test: tuple[object, ConnectedServices] | None = None

    def services(self, settings: Settings, identity: Identity, *, test: bool) -> ConnectedServices:
        """Return the services of a task.

        Args:
            settings: addresses of the systems.
            identity: the task.
            test: whether the run is one of `airflow dags test`; its tasks share their services.
        """
        from ml_pipelines.services.connected import ConnectedServices

        if not test:
            if self.forks:
                limit_garbage_collection()
            return ConnectedServices(settings, forks=self.forks)
        run = (settings, identity.pipeline, identity.run_id)
        if self.test is None or self.test[0] != run:
            skip_final_collection()
            self.test = run, ConnectedServices(settings, forks=self.forks)
        return self.test[1]

    def end_test_run(self) -> None:
        """Release the services of a test run, and with them a smoke-test process that no step has used."""
        self.test = None


current = Process()
