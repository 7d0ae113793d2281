"""Changes of the champion without a training: operators of other DAGs, the watcher, and a person in MLflow's pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.tracking_server import Client
from tests.simulation.training_runs import Orchestrator
from tests.simulation.world import SimulatedServices, World

from ml_pipelines.contracts import Identity
from ml_pipelines.errors import PipelineError, RegistryError, TransientError
from ml_pipelines.ports import ModelVersion, Registry
from ml_pipelines.ports.ledger_entry import LedgerEntry
from ml_pipelines.promotion.history import find_external_change
from ml_pipelines.promotion.transitions import (
    promote,
    record_external_change,
    roll_back,
    rollback_version,
    version_by_alias,
    version_by_number,
)

__all__ = ["Operator", "start_person", "start_watcher"]

_TRIES = 6


@dataclass
class Operator:
    """A task that promotes the challenger or rolls back, tried again until it ends.

    Attributes:
        name: name of the run.
        kind: `promote` or `roll_back`.
        selected: the version that the first try selected, as Airflow keeps it between tries.
        entry: the entry that the task returned.
        finished: whether the task has ended, with a success or with an error that no retry corrects.
    """

    name: str
    kind: str
    model: str = "m"
    selected: list[str] = field(default_factory=list)
    entry: LedgerEntry | None = None
    finished: bool = False

    def start(self, orchestrator: Orchestrator) -> None:
        """Start the task."""
        orchestrator.world.scheduler.spawn(orchestrator.process, lambda: self._orchestrate(orchestrator.world))

    def _orchestrate(self, world: World) -> None:
        scheduler = world.scheduler
        scheduler.sleep(scheduler.random.choice((0.0, 2.0, 10.0, 20.0)))
        for _ in range(_TRIES):
            thread = scheduler.spawn(world.start(self.name), lambda: self._change(SimulatedServices(world)))
            scheduler.wait(lambda: thread.done)  # noqa: B023  the thread of this turn
            if thread.error is None and not scheduler.is_faulty("lost"):
                self.entry = thread.result
                break
            if isinstance(thread.error, PipelineError) and not isinstance(thread.error, TransientError):
                break
        else:
            return
        self.finished = True

    def _change(self, services: SimulatedServices) -> LedgerEntry:
        identity = Identity(pipeline=f"operator of {self.model}", run_id=self.name, task_id=self.kind)
        change = promote if self.kind == "promote" else roll_back
        return change(
            services, self.model, lambda registry: self._select(services, registry), reason="so", identity=identity
        )

    def _select(self, services: SimulatedServices, registry: Registry) -> ModelVersion:
        if self.selected:
            return version_by_number(registry, self.model, self.selected[0])
        if self.kind == "promote":
            version = version_by_alias(registry, self.model, "challenger", fix="")
        else:
            version = rollback_version(services, self.model, "previous")
        self.selected.append(version.version)
        return version


def start_watcher(world: World, model: str = "m") -> None:
    """Start the watcher, as :class:`ml_pipelines_airflow.operators.models.WatchRegistryOperator` does."""

    def watch() -> None:
        world.scheduler.sleep(world.scheduler.random.choice((0.0, 2.0, 10.0, 30.0)))
        services = SimulatedServices(world)
        if find_external_change(services.registry, services.ledger, model) is not None:
            with services.ledger.lock(model):
                record_external_change(services, model)

    world.scheduler.spawn(world.start("watcher"), _tolerant(watch))


def start_person(world: World, model: str = "m") -> None:
    """Let a person point the alias `champion` at some version in MLflow's pages."""

    def click() -> None:
        world.scheduler.sleep(world.scheduler.random.choice((2.0, 10.0, 20.0)))
        versions = [version for (of, version), entry in world.server.versions.items() if of == model]
        if versions:
            world.persons += 1
            Client(world.server).set_registered_model_alias(model, "champion", world.scheduler.random.choice(versions))

    world.scheduler.spawn(world.start("person"), _tolerant(click))


def _tolerant(function: Callable[[], Any]) -> Callable[[], Any]:
    """Return a function whose errors of the package end the process, and no more."""

    def run() -> None:
        try:
            function()
        except (PipelineError, RegistryError):
            return

    return run
