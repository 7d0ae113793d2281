"""Connect the ports to the real systems that the settings name.

An installed package adds a tracking server or a model registry by an entry point in the group `ml_pipelines.tracking`
or `ml_pipelines.registry`. The entry loads a callable with the signature `(address, *, ui_url, variables)`, which
returns an implementation of the port. The setting `ML_PIPELINES_TRACKING` or `ML_PIPELINES_REGISTRY` names the entry.
"""

from __future__ import annotations

import hashlib
import logging
import weakref
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from ml_pipelines._utils.addresses import redact_address
from ml_pipelines._utils.entry_points import find_entry_points, load_entry_point
from ml_pipelines._utils.imports import import_object
from ml_pipelines.contracts import ArtifactKind, ArtifactRef, Identity
from ml_pipelines.errors import ArtifactCorrupt, RequestError
from ml_pipelines.services.settings import Settings
from ml_pipelines.spec.sources import SourceSection
from ml_pipelines.store.artifact_store import ArtifactStore

if TYPE_CHECKING:
    from subprocess import Popen

    from ml_pipelines.ports import DataSource, Ledger, ModelVersion, Registry, TaskRecord, Tracking

__all__ = ["ConnectedServices"]

log = logging.getLogger(__name__)

_ADAPTERS = {
    ("tracking", "mlflow"): "ml_pipelines.adapters.mlflow.tracking:MlflowTracking",
    ("registry", "mlflow"): "ml_pipelines.adapters.mlflow.registry:MlflowRegistry",
}


class ConnectedServices:
    """The implementation of :class:`ml_pipelines.ports.Services`. Each adapter is imported on first use.

    Args:
        settings: kinds and addresses of the systems.
        forks: run a smoke test in a fork of this process, which has imported the libraries and computed nothing.
    """

    def __init__(self, settings: Settings, *, forks: bool = False) -> None:
        self.settings = settings
        self.forks = forks
        self._smoke_test: Popen[bytes] | None = None
        self.manifest_keys = settings.manifest_keys
        self.store = ArtifactStore(settings.store, keys=self.manifest_keys)

    @property
    def server_id(self) -> str:
        """A digest of the kind and the address of the tracking server. Credentials do not change it."""
        address = redact_address(self.settings.tracking_uri)
        return hashlib.sha256(f"{self.settings.tracking} {address}".encode()).hexdigest()[:16]

    @property
    def cells_per_group(self) -> int:
        """The setting of the same name."""
        return self.settings.cells_per_group

    @cached_property
    def tracking(self) -> Tracking:
        """The tracking server of the kind `settings.tracking`."""
        return cast("Tracking", self._connect("tracking", self.settings.tracking))

    @cached_property
    def registry(self) -> Registry:
        """The model registry of the kind `settings.registry`."""
        return cast("Registry", self._connect("registry", self.settings.registry))

    def _connect(self, port: str, kind: str) -> Any:
        settings = self.settings
        adapter = _adapter_class(port, kind)
        return adapter(settings.tracking_uri, ui_url=settings.tracking_ui, variables=settings.tracking_variables)

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger, in SQLite or PostgreSQL."""
        return cast("Ledger", import_object("ml_pipelines.adapters.sql.ledger:SqlLedger")(self.settings.ledger))

    def source(self, declared: SourceSection) -> DataSource:
        """Return the adapter of a declared source."""
        adapter = import_object(declared.adapter)
        settings = self.settings
        return cast("DataSource", adapter(declared, environment=settings.environment, connections=settings.connections))

    def prepare_smoke_test(self) -> None:
        """Start the process of the smoke test, which imports libraries for some seconds. It ends with this object."""
        if self._smoke_test is None and not self.forks:
            self._smoke_test = import_object("ml_pipelines.adapters.smoke_test.process:start")()
            weakref.finalize(self, _end, self._smoke_test)

    def smoke_test(self, version: ModelVersion, data: bytes, training: Mapping[str, Any]) -> list[Any]:
        """Return the predictions of a version for the smoke rows of its training, from a process of its own."""
        process_kind = "a fork of this process" if self.forks else "a new process"
        log.info("%s version %s: smoke test in %s", version.model, version.version, process_kind)
        if self.forks:
            predictions = import_object("ml_pipelines.adapters.smoke_test.process:predict_in_fork")(
                version, data, training
            )
        else:
            process, self._smoke_test = self._smoke_test, None
            predictions = import_object("ml_pipelines.adapters.smoke_test.process:predict_in_process")(
                version, data, training, process=process
            )
        return cast("list[Any]", predictions)

    def read(self, ref: ArtifactRef) -> bytes:
        """Return the verified bytes of an artifact."""
        return self.store.read(ref)

    def copy_artifact(self, ref: ArtifactRef, data: bytes) -> ArtifactRef:
        """Store the bytes of an artifact of another store; they must have the digest of `ref`."""
        stored = self.store.put_bytes(data, kind=ref.kind, rows=ref.rows)
        if stored.sha256 != ref.sha256:
            raise ArtifactCorrupt(
                "the bytes of an artifact do not have its digest",
                where=ref.uri,
                expected=f"sha256 {ref.sha256}",
                got=f"sha256 {stored.sha256}",
                fix="train the model again",
            )
        return stored

    def save_artifact(self, data: bytes, kind: ArtifactKind) -> ArtifactRef:
        """Store bytes as an artifact."""
        return self.store.put_bytes(data, kind=kind)

    def runs(self, pipeline: str) -> Sequence[str]:
        """Return the ids of the runs of a pipeline that the store records, the latest first."""
        return self.store.runs(pipeline)

    def tasks(self, identity: Identity) -> Sequence[TaskRecord]:
        """Return the records of the tasks of a run, in the order in which they ended."""
        task_record = import_object("ml_pipelines.ports:TaskRecord")
        records = self.store.run(identity.pipeline, identity.run_id)
        return [task_record(record.identity, record.result, record.recorded_at) for record in records]


def _adapter_class(port: str, kind: str) -> Any:
    """Return the class that connects a port to a kind of server.

    Raises:
        RequestError: neither the core nor an installed package has this kind.
    """
    if (port, kind) in _ADAPTERS:
        return import_object(_ADAPTERS[port, kind])
    group = f"ml_pipelines.{port}"
    extensions = find_entry_points(group)
    if kind in extensions:
        return load_entry_point(group, kind)
    kinds = sorted({*(name for of, name in _ADAPTERS if of == port), *extensions})
    raise RequestError(
        f"there is no {port} of the kind {kind!r}",
        where=f"ML_PIPELINES_{port.upper()}",
        expected=f"one of {', '.join(kinds)}",
        got=kind,
        fix=f"correct the setting, or install the package that registers {kind!r} in the entry-point group {group}",
    )


def _end(process: Popen[bytes]) -> None:
    """End a process that may have ended already."""
    process.kill()
    with process:
        pass
