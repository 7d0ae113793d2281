"""Which real systems stand behind the ports, and where they are."""

from __future__ import annotations

import hashlib
import logging
import os
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ml_pipelines.contracts import ArtifactKind, ArtifactRef, Identity
from ml_pipelines.errors import ArtifactCorrupt, RequestError
from ml_pipelines.extras import load
from ml_pipelines.ports import CELLS_PER_GROUP
from ml_pipelines.serving import verified
from ml_pipelines.spec import DvcSource, FileSource, SqlSource
from ml_pipelines.store import ArtifactStore

if TYPE_CHECKING:
    from subprocess import Popen

    from ml_pipelines.ports import DataSource, Ledger, ModelVersion, Registry, TaskRecord, Tracking

__all__ = ["ConnectedServices", "Settings", "cells_per_group"]

log = logging.getLogger(__name__)

_CONNECTION = "ML_PIPELINES_CONNECTION_"
_CELLS_PER_GROUP = "ML_PIPELINES_CELLS_PER_GROUP"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where the systems are. Addresses may hold credentials: never log or store them.

    Attributes:
        store: URI of the artifact store.
        tracking_uri: of the MLflow server or database.
        tracking_ui: where people's browsers find MLflow, if not at the tracking URI.
        ledger: SQLAlchemy URL of the ledger: SQLite or PostgreSQL.
        tracking_variables: MLflow's environment variables that hold while it is spoken to, such as a token.
        connections: name -> SQLAlchemy URL of a database, or what a DVC source needs to know: the git repository's
            address, or a JSON object, see :class:`ml_pipelines.adapters.dvc_connection.DvcConnection`.
        environment: what `${NAME}` in a declaration stands for.
        cells_per_group: see :attr:`ml_pipelines.ports.Services.cells_per_group`.
    """

    store: str
    tracking_uri: str = field(repr=False)
    tracking_ui: str | None = None
    ledger: str = field(default="sqlite:///.ml-pipelines/ledger.db", repr=False)
    tracking_variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    connections: Mapping[str, str] = field(default_factory=dict, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    cells_per_group: int = CELLS_PER_GROUP

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Read `ML_PIPELINES_STORE`, `ML_PIPELINES_LEDGER`, `MLFLOW_TRACKING_URI` and `ML_PIPELINES_CONNECTION_<NAME>`.

        `ML_PIPELINES_TRACKING_UI` is where browsers find MLflow. Without the first three, everything is kept in the
        folder `.ml-pipelines` of the working directory. `ML_PIPELINES_CELLS_PER_GROUP` bounds the memory.

        Raises:
            RequestError: that is no number of cells.
        """
        home = Path.cwd() / ".ml-pipelines"
        return cls(
            store=environment.get("ML_PIPELINES_STORE") or f"file://{home}/store",
            tracking_uri=environment.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home}/mlflow.db",
            tracking_ui=environment.get("ML_PIPELINES_TRACKING_UI") or None,
            ledger=environment.get("ML_PIPELINES_LEDGER") or f"sqlite:///{home}/ledger.db",
            connections={
                name.removeprefix(_CONNECTION).lower(): url
                for name, url in environment.items()
                if name.startswith(_CONNECTION)
            },
            environment=environment,
            cells_per_group=cells_per_group(environment.get(_CELLS_PER_GROUP), _CELLS_PER_GROUP),
        )

    def at(self, store: str | None) -> Settings:
        """The same with another artifact store, a URI or a folder; as it is if there is none."""
        if not store:
            return self
        return replace(self, store=store if "://" in store else f"file://{Path(store).resolve()}")

    def as_environment(self, *connections: str) -> dict[str, str]:
        """The variables that :meth:`from_environment` reads the same from, for another process. Secret.

        Args:
            connections: names of those that it needs, in lower case; who uses one that is not there tells it.
        """
        known = {name: self.connections[name] for name in connections if name in self.connections}
        return {
            **{f"{_CONNECTION}{name.upper()}": address for name, address in known.items()},
            **self.tracking_variables,
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            _CELLS_PER_GROUP: str(self.cells_per_group),
            "ML_PIPELINES_LEDGER": self.ledger,
            "ML_PIPELINES_STORE": self.store,
            "ML_PIPELINES_TRACKING_UI": self.tracking_ui or "",
        }


def cells_per_group(text: str | None, where: str) -> int:
    """The number that a setting names; the usual one if it names none.

    Raises:
        RequestError: it is no number of cells.
    """
    if not text:
        return CELLS_PER_GROUP
    if not text.isdecimal() or int(text) == 0:
        fix = f"leave it empty for {CELLS_PER_GROUP}; a smaller number takes less memory"
        raise RequestError(
            "this is no number of cells", where=where, expected="a whole number above 0", got=text, fix=fix
        )
    return int(text)


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
    def place(self) -> str:
        """A digest of MLflow's address, whoever one is there."""
        address = load("ml_pipelines.adapters.mlflow_server:without_credentials")(self.settings.tracking_uri)
        return hashlib.sha256(address.encode()).hexdigest()[:16]

    @property
    def cells_per_group(self) -> int:
        """As it is set."""
        return self.settings.cells_per_group

    @cached_property
    def tracking(self) -> Tracking:
        """MLflow's tracking."""
        return cast("Tracking", self._mlflow("mlflow_tracking:MlflowTracking"))

    @cached_property
    def registry(self) -> Registry:
        """MLflow's registry."""
        return cast("Registry", self._mlflow("mlflow_registry:MlflowRegistry"))

    def _mlflow(self, adapter: str) -> Any:
        settings = self.settings
        made = load(f"ml_pipelines.adapters.{adapter}")
        return made(settings.tracking_uri, ui_url=settings.tracking_ui, variables=settings.tracking_variables)

    @cached_property
    def ledger(self) -> Ledger:
        """What became of every run, in SQLite or PostgreSQL."""
        return cast("Ledger", load("ml_pipelines.adapters.sql_ledger:SqlLedger")(self.settings.ledger))

    def source(self, declared: DvcSource | FileSource | SqlSource) -> DataSource:
        """The adapter for a declared source."""
        environment = self.settings.environment
        match declared:
            case DvcSource():
                made = load("ml_pipelines.adapters.dvc_source:DvcDataSource")(
                    declared, environment, self.settings.connections
                )
            case FileSource():
                made = load("ml_pipelines.adapters.file_source:FileDataSource")(declared, environment)
            case SqlSource():
                adapter = load("ml_pipelines.adapters.sql_source:SqlDataSource")
                made = adapter(declared, environment, self.settings.connections)
        return cast("DataSource", made)

    def expect_rehearsal(self) -> None:
        """Start its process, which takes some seconds to import what a model needs; it ends with this object."""
        if self._rehearsal is None and not self.forks:
            self._rehearsal = load("ml_pipelines.adapters.rehearsal:start")()
            weakref.finalize(self, _end, self._rehearsal)

    def rehearse(self, version: ModelVersion, training: Mapping[str, Any]) -> list[Any]:
        """What a version answers to the smoke rows of its training, in a process of its own."""
        data = verified(self.registry, version)
        how = "a fork of this process" if self.forks else "a process of its own"
        log.info("%s version %s is tried by %s", version.model, version.version, how)
        if self.forks:
            told = load("ml_pipelines.adapters.rehearsal:answers_of_a_fork")(version, data, training)
        else:
            process, self._rehearsal = self._rehearsal, None
            told = load("ml_pipelines.adapters.rehearsal:answers")(version, data, training, process=process)
        return cast("list[Any]", told)

    def read(self, ref: ArtifactRef) -> bytes:
        """The verified bytes of an artifact."""
        return self.store.read(ref)

    def adopt(self, ref: ArtifactRef, data: bytes) -> ArtifactRef:
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

    def keep(self, data: bytes, kind: ArtifactKind) -> ArtifactRef:
        """Put bytes into this store."""
        return self.store.put_bytes(data, kind=kind)

    def runs(self, pipeline: str) -> Sequence[str]:
        """What the store has on record of a pipeline."""
        return self.store.runs(pipeline)

    def tasks(self, identity: Identity) -> Sequence[TaskRecord]:
        """What the store has on record of a run."""
        made = load("ml_pipelines.ports:TaskRecord")
        records = self.store.run(identity.pipeline, identity.run_id)
        return [made(each.identity, each.result, each.recorded_at) for each in records]


def _end(process: Popen[bytes]) -> None:
    """Of a process that may have been asked, and so have ended."""
    process.kill()
    with process:
        pass
