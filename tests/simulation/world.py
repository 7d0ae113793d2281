"""One simulated world: the systems, and the replacements through which the real code uses them."""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from tests.simulation import database, tracking_server
from tests.simulation.clock import START, Clock, Sequential, clock_datetime
from tests.simulation.disk import Disk, SimulatedFiles
from tests.simulation.scheduler import Faults, Process, Scheduler
from tests.simulation.steps import STEPS, TrainingRecord, predictions

from ml_pipelines.contracts import ArtifactRef
from ml_pipelines.pipeline.import_closure import Closure
from ml_pipelines.ports import CELLS_PER_GROUP, ModelVersion
from ml_pipelines.services.connected import ConnectedServices
from ml_pipelines.store.artifact_store import ArtifactStore

__all__ = ["SimulatedServices", "World", "simulated"]

STORE = "file:///simulated"


class World:
    """The systems of one schedule."""

    def __init__(self, seed: int, faults: Faults | None = None) -> None:
        self.scheduler = Scheduler(seed, faults)
        self.clock = Clock(self.scheduler)
        self.disk = Disk(self.scheduler, self._server_time, atomic_create=self.scheduler.random.random() < 0.5)
        self.database = database.Database(self.scheduler)
        self.server = tracking_server.TrackingServer(self.scheduler, self.clock)
        self.channel: Any = None
        self.persons = 0
        self.movers: set[str] = set()
        self.proofs: dict[tuple[Process, str, str], str] = {}
        self._started = 0

    def _server_time(self) -> datetime:
        return START + timedelta(seconds=self.scheduler.now)

    def start(self, name: str) -> Process:
        """Start a process on one of two hosts."""
        self._started += 1
        host = f"host{self.scheduler.random.randrange(2)}"
        return Process(f"{name}~{self._started}", host, self.scheduler)

    def identity(self) -> str:
        """Return the identity of the current process."""
        process = self.scheduler.process
        return f"{process.host}~{process.name}"

    def has_ended(self, identity: str) -> bool:
        """Return whether a process on the host of the current one has ended."""
        host, _, name = identity.partition("~")
        if host != self.scheduler.process.host:
            return False
        return not any(thread.process.name == name and thread.process.alive for thread in self.scheduler.threads)

    def token(self, size: int) -> str:
        """Return random hex digits."""
        return f"{self.scheduler.random.getrandbits(8 * size):0{2 * size}x}"


class SimulatedServices(ConnectedServices):
    """The real services with simulated systems. The smoke test reads the predictions in the file."""

    server_id = "simulated"
    cells_per_group = CELLS_PER_GROUP
    manifest_keys = None

    def __init__(self, world: World) -> None:
        self.world = world
        self.__dict__ |= {
            "store": ArtifactStore(STORE),
            "tracking": tracking_server.SimulatedTracking(world.server),
            "registry": tracking_server.SimulatedRegistry(world.server),
            "ledger": database.SimulatedLedger(world.database),
        }

    def prepare_smoke_test(self) -> None:
        """Prepare nothing."""

    def smoke_test(self, version: ModelVersion, data: bytes, training: Mapping[str, Any]) -> list[Any]:
        """Return the predictions of the verified file."""
        self.world.scheduler.pause("smoke test")
        key = self.world.scheduler.process, version.model, version.version
        self.world.proofs[key] = hashlib.sha256(data).hexdigest()
        return predictions(data)


@dataclass
class _Current:
    world: World | None = None


_current = _Current()


def current() -> World:
    """Return the systems of the current schedule."""
    assert _current.world is not None, "no world runs"
    return _current.world


@contextmanager
def running(world: World) -> Iterator[World]:
    """Let the replaced names lead to a world."""
    _current.world = world
    try:
        yield world
    finally:
        _current.world = None


class _Forward:
    """A module whose functions are those of the clock of the current schedule."""

    def __getattr__(self, name: str) -> Any:
        return getattr(current().clock, name)


def _closure(step: Any, kinds: Any) -> Closure:
    """Return the code of a simulated step, which never changes."""
    return Closure({}, ())


def _read_input(value: Any, store: ArtifactStore, directory: str) -> Any:
    if isinstance(value, tuple):
        return [_read_input(ref, store, directory) for ref in value]
    data = store.read(value)
    return data if value.kind == "model" else json.loads(data)


def _encode(kind: str, value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value, sort_keys=True).encode()


def _write_model(training: Any, logged: Any, directory: Any) -> None:
    tracking_server.write_model(current().scheduler, training, logged)


def _lookup(uri: str, model: str, alias: str) -> Any:
    from ml_pipelines.adapters.mlflow.alias_lookup import LookupUnsupported

    raise LookupUnsupported


def _report(work: Any, services: Any, decision: Any, *_: Any, **documents: Any) -> ArtifactRef:
    page = f"report of {work.identity.run_id}: {decision.outcome}"
    return services.save_artifact(page.encode(), "html")


def _replacements() -> dict[str, dict[str, Any]]:
    """Return the names that lead outside, by module, with what stands for them."""
    time, now = _Forward(), lambda: current().clock.wall()
    moments = clock_datetime(now)
    files = lambda uri: SimulatedFiles(current().disk)  # noqa: E731
    secrets = SimpleNamespace(token_hex=lambda size: current().token(size))
    return {
        "ml_pipelines.store.lease": {
            "time": time,
            "threading": time,
            "secrets": secrets,
            "process_identity": lambda: current().identity(),
            "has_ended": lambda identity: current().has_ended(identity),
        },
        "ml_pipelines.store.artifact_store": {
            "datetime": moments,
            "open_filesystem": files,
            "ThreadPoolExecutor": Sequential,
        },
        "ml_pipelines.store.retention": {"datetime": moments},
        "ml_pipelines.runner.step": {
            "time": time,
            "find_step": STEPS.__getitem__,
            "encode_artifact": _encode,
            "read_input": _read_input,
            "bound_streaming": lambda arguments, cells: nullcontext(),
        },
        "ml_pipelines.pipeline.cache_key": {"_closure": _closure},
        "ml_pipelines.adapters.mlflow.registry": {"lookup_alias": _lookup},
        "ml_pipelines.adapters.mlflow.tracking": {
            "time": time,
            "write_model": _write_model,
            "TemporaryDirectory": lambda: nullcontext(""),
        },
        "ml_pipelines.adapters.mlflow.tags": {"time": time},
        "ml_pipelines.adapters.sql.ledger": {
            "datetime": moments,
            "model_lock": database.model_lock,
            "_ENTRIES": database.Tables,
            "_locked_head": database.locked_head,
            "_append": database.append,
        },
        "ml_pipelines.adapters.sql.ledger:SqlLedger": {"_last": database.last_entry},
        "ml_pipelines_airflow.notifications.slack_delivery": {
            "time": time,
            "connect": lambda destination: current().channel,
        },
        "ml_pipelines_airflow.notifications.state_store": {"time": time},
        "ml_pipelines.steps.training.train": {"TrainingRecord": TrainingRecord},
        "ml_pipelines.steps.training.record_decision": {"publish_report": _report},
    }


@contextmanager
def simulated() -> Iterator[None]:
    """Replace, within the block, every name through which the code under test leaves the process."""
    with ExitStack() as stack:
        for place, names in _replacements().items():
            module, _, attribute = place.partition(":")
            owner = importlib.import_module(module)
            owner = getattr(owner, attribute) if attribute else owner
            for name, value in names.items():
                stack.enter_context(patch.object(owner, name, value))
        disabled = logging.root.manager.disable
        stack.callback(logging.disable, disabled)
        logging.disable(logging.CRITICAL)
        yield
