"""Which real systems stand behind the ports, and where they are."""

from __future__ import annotations

import hashlib
import logging
import weakref
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from ml_pipelines._utils.imports import import_object
from ml_pipelines.contracts import ArtifactKind, ArtifactRef, Identity
from ml_pipelines.errors import ArtifactCorrupt
from ml_pipelines.promotion.deployment import verified_model_bytes
from ml_pipelines.services.settings import Settings
from ml_pipelines.spec.sources import SourceSection
from ml_pipelines.store.artifact_store import ArtifactStore

if TYPE_CHECKING:
    from subprocess import Popen

    from ml_pipelines.ports import DataSource, Ledger, ModelVersion, Registry, TaskRecord, Tracking

__all__ = ["ConnectedServices"]

log = logging.getLogger(__name__)


class ConnectedServices:
    """:class:`ml_pipelines.ports.Services` with MLflow, DVC, SQL and files behind it, each imported on first use.

    Args:
        settings: where all that is.
        forks: a model is rehearsed by a fork of this process, which has imported everything and computed nothing.
    """

    def __init__(self, settings: Settings, *, forks: bool = False) -> None:
        self.settings = settings
        self.forks = forks
        self._rehearsal: Popen[bytes] | None = None
        self.store = ArtifactStore(settings.store)

    @property
    def server_id(self) -> str:
        """A digest of MLflow's address, whoever one is there."""
        address = import_object("ml_pipelines.adapters.mlflow.client:redact")(self.settings.tracking_uri)
        return hashlib.sha256(address.encode()).hexdigest()[:16]

    @property
    def cells_per_group(self) -> int:
        """As it is set."""
        return self.settings.cells_per_group

    @cached_property
    def tracking(self) -> Tracking:
        """MLflow's tracking."""
        return cast("Tracking", self._mlflow("tracking:MlflowTracking"))

    @cached_property
    def registry(self) -> Registry:
        """MLflow's registry."""
        return cast("Registry", self._mlflow("registry:MlflowRegistry"))

    def _mlflow(self, adapter: str) -> Any:
        settings = self.settings
        made = import_object(f"ml_pipelines.adapters.mlflow.{adapter}")
        return made(settings.tracking_uri, ui_url=settings.tracking_ui, variables=settings.tracking_variables)

    @cached_property
    def ledger(self) -> Ledger:
        """What became of every run, in SQLite or PostgreSQL."""
        return cast("Ledger", import_object("ml_pipelines.adapters.sql.ledger:SqlLedger")(self.settings.ledger))

    def source(self, declared: SourceSection) -> DataSource:
        """Return the adapter of a declared source."""
        adapter = import_object(declared.adapter)
        settings = self.settings
        return cast("DataSource", adapter(declared, environment=settings.environment, connections=settings.connections))

    def prepare_smoke_test(self) -> None:
        """Start its process, which takes some seconds to import what a model needs; it ends with this object."""
        if self._rehearsal is None and not self.forks:
            self._rehearsal = import_object("ml_pipelines.adapters.smoke_test.client:start")()
            weakref.finalize(self, _end, self._rehearsal)

    def smoke_test(self, version: ModelVersion, training: Mapping[str, Any]) -> list[Any]:
        """What a version answers to the smoke rows of its training, in a process of its own."""
        data = verified_model_bytes(self.registry, version)
        how = "a fork of this process" if self.forks else "a process of its own"
        log.info("%s version %s is tried by %s", version.model, version.version, how)
        if self.forks:
            told = import_object("ml_pipelines.adapters.smoke_test.client:predict_in_fork")(version, data, training)
        else:
            process, self._rehearsal = self._rehearsal, None
            told = import_object("ml_pipelines.adapters.smoke_test.client:predict_in_process")(
                version, data, training, process=process
            )
        return cast("list[Any]", told)

    def read(self, ref: ArtifactRef) -> bytes:
        """The verified bytes of an artifact."""
        return self.store.read(ref)

    def copy_artifact(self, ref: ArtifactRef, data: bytes) -> ArtifactRef:
        """Put bytes into this store; they must be those that `ref` promises."""
        mine = self.store.put_bytes(data, kind=ref.kind, rows=ref.rows)
        if mine.sha256 != ref.sha256:
            raise ArtifactCorrupt(
                "the bytes are not those that were promised",
                where=ref.uri,
                expected=f"sha256 {ref.sha256}",
                got=f"sha256 {mine.sha256}",
                fix="train the model again",
            )
        return mine

    def save_artifact(self, data: bytes, kind: ArtifactKind) -> ArtifactRef:
        """Put bytes into this store."""
        return self.store.put_bytes(data, kind=kind)

    def runs(self, pipeline: str) -> Sequence[str]:
        """What the store has on record of a pipeline."""
        return self.store.runs(pipeline)

    def tasks(self, identity: Identity) -> Sequence[TaskRecord]:
        """What the store has on record of a run."""
        made = import_object("ml_pipelines.ports:TaskRecord")
        records = self.store.run(identity.pipeline, identity.run_id)
        return [made(each.identity, each.result, each.recorded_at) for each in records]


def _end(process: Popen[bytes]) -> None:
    """Of a process that may have been asked, and so have ended."""
    process.kill()
    with process:
        pass
