"""State of a worker process and of the forks that run its tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ml_pipelines._utils.gc import limit_garbage_collection, skip_final_collection
from ml_pipelines.contracts import Identity

if TYPE_CHECKING:
    from ml_pipelines.services.connected import ConnectedServices
    from ml_pipelines.services.settings import Settings

__all__ = ["Process", "current"]


@dataclass(slots=True)
class Process:
    """What is known of this process and its forks.

    Attributes:
        forks: it is a worker's, which has preloaded what steps need, or a fork of one, which ends with its task: a fork
            of that tries a model at once.
        test: what serves the tasks of a run of `airflow dags test`, all of which are in this process, and which run.
    """

    forks: bool = False
    test: tuple[object, ConnectedServices] | None = None

    def services(self, where: Settings, identity: Identity, *, test: bool) -> ConnectedServices:
        """What serves a task; `test` tells a run of `airflow dags test`."""
        from ml_pipelines.services.connected import ConnectedServices

        if not test:
            if self.forks:
                limit_garbage_collection()
            return ConnectedServices(where, forks=self.forks)
        run = (where, identity.pipeline, identity.run_id)
        if self.test is None or self.test[0] != run:
            skip_final_collection()
            self.test = run, ConnectedServices(where, forks=self.forks)
        return self.test[1]


current = Process()
