"""The ports in memory, for tests. They behave as the real systems do.

If `down` is set on one of them, every call raises ServiceUnavailable.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from ml_pipelines.contracts import ArtifactKind, ArtifactRef, Decision, Identity
from ml_pipelines.errors import ArtifactCorrupt, ArtifactMissing, RegistryError, ServiceUnavailable, SourceNotFound
from ml_pipelines.ports import CELLS_PER_GROUP, DataSource, ModelVersion, TaskRecord, TrackedModel, Training
from ml_pipelines.ports.ledger_entry import LedgerEntry, RunDetails
from ml_pipelines.promotion import hash_chain as chain
from ml_pipelines.spec.sources import SourceSection
from ml_pipelines.store.signatures import ManifestKeys

__all__ = ["FakeLedger", "FakeRegistry", "FakeRun", "FakeServices", "FakeTracking"]


def _answer(name: str, *, down: bool) -> None:
    if down:
        raise ServiceUnavailable(f"the {name} does not answer", fix="start it, then try again")


@dataclass(slots=True, kw_only=True)
class FakeRun:
    """A training on the tracking server in memory.

    Attributes:
        identity: the run and the task of the training.
        training: the training as it was logged last.
        metrics: of the training and its evaluation.
        figures: SVG bytes by file name.
        documents: JSON texts by file name.
    """

    identity: Identity
    training: Training
    metrics: dict[str, float] = field(default_factory=dict)
    figures: dict[str, bytes] = field(default_factory=dict)
    documents: dict[str, str] = field(default_factory=dict)


class FakeTracking:
    """:class:`ml_pipelines.ports.Tracking` in memory.

    Attributes:
        runs: by run id.
        files: bytes of the logged models, by model URI.
        open_seconds: ages of the open runs, by pipeline.
    """

    def __init__(self) -> None:
        self.down = False
        self.runs: dict[str, FakeRun] = {}
        self.files: dict[str, bytes] = {}
        self.open_seconds: dict[str, list[float]] = {}

    def log_training(self, identity: Identity, training: Training) -> TrackedModel:
        """Log a training: an identity has one run."""
        _answer("tracking server", down=self.down)
        name = f"{identity.pipeline}/{identity.run_id}/{identity.task_id}/{identity.map_index}"
        run_id = hashlib.sha256(name.encode()).hexdigest()[:32]
        # A logged model never changes, so another model gets another URI.
        model = hashlib.sha256(f"{run_id}{training.model_ref.sha256}".encode()).hexdigest()[:32]
        run = self.runs.setdefault(run_id, FakeRun(identity=identity, training=training))
        run.training = training
        run.metrics |= training.metrics
        self.files[f"models:/m-{model}"] = training.model_bytes
        return TrackedModel(run_id, f"models:/m-{model}")

    def log_evaluation(
        self, tracked: TrackedModel, metrics: dict[str, float], figures: dict[str, bytes], documents: dict[str, str]
    ) -> None:
        """Add metrics, figures and documents to a logged run."""
        _answer("tracking server", down=self.down)
        if tracked.run_id not in self.runs:
            raise RegistryError("the run does not exist", got=tracked.run_id, fix="run the train step again")
        run = self.runs[tracked.run_id]
        run.metrics |= metrics
        run.figures |= figures
        run.documents |= documents

    def close_abandoned(self, pipeline: str, older_than_seconds: float) -> int:
        """Close the runs in `open_seconds` that are older."""
        _answer("tracking server", down=self.down)
        ages = self.open_seconds.get(pipeline, [])
        self.open_seconds[pipeline] = [age for age in ages if age <= older_than_seconds]
        return len(ages) - len(self.open_seconds[pipeline])


class FakeRegistry:
    """:class:`ml_pipelines.ports.Registry` in memory.

    Args:
        files: bytes by model URI, such as :attr:`FakeTracking.files`; take some away and the artifact is gone.

    Attributes:
        versions: of each model, the first being version 1.
        aliases: `(model, alias)` -> version.
        extra_files: files beside every model file, by path.
    """

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        self.down = False
        self.files = {} if files is None else files
        self.versions: dict[str, list[ModelVersion]] = {}
        self.aliases: dict[tuple[str, str], str] = {}
        self.extra_files: dict[str, bytes] = {}
        self._uris: dict[tuple[str, str], str] = {}

    def by_alias(self, model: str, alias: str) -> ModelVersion | None:
        """Return the version of an alias."""
        _answer("model registry", down=self.down)
        version = self.aliases.get((model, alias))
        return None if version is None else self._version(model, version)

    def by_version(self, model: str, version: str) -> ModelVersion | None:
        """Return a version by its number."""
        _answer("model registry", down=self.down)
        versions = {registered.version for registered in self.versions.get(model, [])}
        return self._version(model, version) if version in versions else None

    def register(
        self, model: str, tracked: TrackedModel, artifact: ArtifactRef, identity: Identity, tags: dict[str, str]
    ) -> ModelVersion:
        """Register a tracked model: a model URI has one version."""
        _answer("model registry", down=self.down)
        versions = self.versions.setdefault(model, [])
        for registered in versions:
            if self._uris[model, registered.version] == tracked.model_uri:
                return self._version(model, registered.version)
        run_tags = {"ml_pipelines.pipeline": identity.pipeline, "ml_pipelines.run_id": identity.run_id}
        registered = ModelVersion(model, str(len(versions) + 1), artifact, tags | run_tags)
        versions.append(registered)
        self._uris[model, registered.version] = tracked.model_uri
        return registered

    def set_alias(self, model: str, version: str, alias: str) -> None:
        """Point an alias at a version."""
        _answer("model registry", down=self.down)
        self._version(model, version)
        self.aliases[model, alias] = version

    def drop_alias(self, model: str, alias: str) -> None:
        """Remove an alias."""
        _answer("model registry", down=self.down)
        self.aliases.pop((model, alias), None)

    def fetch_files(self, version: ModelVersion) -> dict[str, bytes]:
        """Return the model file of a version, and what a test has added to :attr:`extra_files`."""
        return {"model.skops": self.fetch(version), **self.extra_files}

    def fetch(self, version: ModelVersion) -> bytes:
        """Return the bytes of a version's file."""
        _answer("model registry", down=self.down)
        data = self.files.get(self._uris.get((version.model, version.version), ""))
        if data is None:
            raise RegistryError(
                f"the file of version {version.version} does not exist",
                where=f"model {version.model}",
                fix="restore the registry's artifacts, or train and deploy another version",
            )
        return data

    def _version(self, model: str, version: str) -> ModelVersion:
        for registered in self.versions.get(model, []):
            if registered.version == version:
                aliases = tuple(sorted(name for (of, name), to in self.aliases.items() if (of, to) == (model, version)))
                return replace(registered, aliases=aliases)
        raise RegistryError(f"there is no version {version} of {model}", fix="name a registered version")


class FakeLedger:
    """:class:`ml_pipelines.ports.Ledger` in memory.

    Attributes:
        written: all entries of all models, the oldest first. A test breaks the chain by a change of this list.
        heads: the head of each model's chain.
        moment: time of the next entry; each entry adds a second.
    """

    def __init__(self) -> None:
        self.down = False
        self.written: list[LedgerEntry] = []
        self.heads: dict[str, chain.ChainHead] = {}
        self.moment = datetime(2026, 1, 1, tzinfo=UTC)
        self._locked: set[str] = set()

    def record(self, identity: Identity, decision: Decision, details: RunDetails) -> LedgerEntry:
        """Append the decision of a run to the model's chain, unless it has the same entry."""
        _answer("ledger", down=self.down)
        of_run = [entry for entry in self._of(decision.model) if _is_of(entry, identity.pipeline, identity.run_id)]
        if of_run and chain.is_same_record(of_run[-1], decision, details):
            return of_run[-1]
        entry = chain.next_entry(
            identity,
            decision,
            details,
            after=self.heads.get(decision.model, chain.START),
            supersedes=of_run[-1].seq if of_run else None,
            recorded_at=self.moment.isoformat(timespec="milliseconds"),
        )
        self.moment += timedelta(seconds=1)
        self.heads[entry.model] = chain.ChainHead(entry.seq, entry.hash)
        self.written.append(entry)
        return entry

    def entry(self, pipeline: str, run_id: str) -> LedgerEntry | None:
        """Return the latest entry of a run."""
        _answer("ledger", down=self.down)
        return next((entry for entry in reversed(self.written) if _is_of(entry, pipeline, run_id)), None)

    def entries(self, model: str, *, limit: int = 100, before: int | None = None) -> tuple[LedgerEntry, ...]:
        """Return entries of a model, the newest first."""
        _answer("ledger", down=self.down)
        entries = [entry for entry in reversed(self._of(model)) if before is None or entry.seq < before]
        return tuple(entries[:limit])

    def models(self) -> tuple[str, ...]:
        """Return the models that have entries."""
        _answer("ledger", down=self.down)
        return tuple(sorted(self.heads))

    def verify(self, model: str) -> tuple[str, ...]:
        """Return the flaws of a model's chain."""
        _answer("ledger", down=self.down)
        stored = [
            chain.StoredEntry(
                model=entry.model,
                seq=entry.seq,
                pipeline=entry.pipeline,
                run_id=entry.run_id,
                text=chain.entry_text(entry),
                hash=entry.hash,
            )
            for entry in sorted(self._of(model), key=lambda entry: entry.seq)
        ]
        return tuple(chain.chain_errors(stored, self.heads.get(model)))

    @contextmanager
    def lock(self, model: str) -> Iterator[None]:
        """Hold the lock of a model, which is always free in memory."""
        _answer("ledger", down=self.down)
        assert model not in self._locked, "the model lock is not reentrant"
        self._locked.add(model)
        try:
            yield
        finally:
            self._locked.remove(model)

    def _of(self, model: str) -> list[LedgerEntry]:
        return [entry for entry in self.written if entry.model == model]


def _is_of(entry: LedgerEntry, pipeline: str, run_id: str) -> bool:
    return (entry.pipeline, entry.run_id) == (pipeline, run_id)


class FakeServices:
    """:class:`ml_pipelines.ports.Services` in memory. The registry serves the logged models of the tracking server.

    Attributes:
        blobs: the artifact store: bytes by URI.
        sources: the declared sources with their adapters; see :meth:`add_source`.
        done: records of the ended tasks, for :meth:`tasks`.
    """

    server_id = "memory"

    def __init__(self) -> None:
        self.cells_per_group = CELLS_PER_GROUP
        self.manifest_keys: ManifestKeys | None = None
        self.tracking = FakeTracking()
        self.registry = FakeRegistry(self.tracking.files)
        self.ledger = FakeLedger()
        self.blobs: dict[str, bytes] = {}
        self.sources: list[tuple[Any, DataSource]] = []
        self.done: list[TaskRecord] = []

    def add_source(self, declared: SourceSection, source: DataSource) -> None:
        """Set the adapter of a declared source."""
        self.sources.append((declared, source))

    def source(self, declared: SourceSection) -> DataSource:
        """Return the adapter that was added for an equal declaration."""
        for section, source in self.sources:
            if section == declared:
                return source
        raise SourceNotFound("there is no adapter for this source", got=repr(declared), fix="call add_source() first")

    def put(self, data: bytes, *, kind: ArtifactKind, rows: int | None = None) -> ArtifactRef:
        """Store bytes, as :func:`ml_pipelines.runner.step.run_step` would."""
        digest = hashlib.sha256(data).hexdigest()
        uri = f"memory://store/{digest}"
        self.blobs[uri] = data
        return ArtifactRef(uri=uri, sha256=digest, bytes=len(data), kind=kind, rows=rows)

    def prepare_smoke_test(self) -> None:
        """Do nothing: a smoke test in memory needs no preparation."""

    def smoke_test(self, version: ModelVersion, data: bytes, training: Mapping[str, Any]) -> list[Any]:
        """Return the predictions of a version for the smoke rows of its training, in this process."""
        from ml_pipelines.modeling.features import frame_from_records, predict
        from ml_pipelines.modeling.serialization import load_model

        model = load_model(data)
        return list(
            predict(model, frame_from_records(training["smoke"]["rows"], training["features"]), training).tolist()
        )

    def read(self, ref: ArtifactRef) -> bytes:
        """Return the verified bytes of an artifact."""
        if ref.uri not in self.blobs:
            raise ArtifactMissing("the artifact does not exist", where=ref.uri, fix="run the step again")
        return _verified(ref, self.blobs[ref.uri])

    def copy_artifact(self, ref: ArtifactRef, data: bytes) -> ArtifactRef:
        """Store bytes that must have `ref`'s digest."""
        return self.put(_verified(ref, data), kind=ref.kind, rows=ref.rows)

    def save_artifact(self, data: bytes, kind: ArtifactKind) -> ArtifactRef:
        """Store bytes."""
        return self.put(data, kind=kind)

    def runs(self, pipeline: str) -> list[str]:
        """Return the runs in `done`, the latest first."""
        ids = [record.identity.run_id for record in reversed(self.done) if record.identity.pipeline == pipeline]
        return list(dict.fromkeys(ids))

    def tasks(self, identity: Identity) -> list[TaskRecord]:
        """Return the records in `done` of a run."""
        run = (identity.pipeline, identity.run_id)
        return [record for record in self.done if (record.identity.pipeline, record.identity.run_id) == run]


def _verified(ref: ArtifactRef, data: bytes) -> bytes:
    digest = hashlib.sha256(data).hexdigest()
    if digest != ref.sha256:
        raise ArtifactCorrupt(
            "the bytes do not have the digest of the reference",
            where=ref.uri,
            expected=f"sha256 {ref.sha256}",
            got=f"sha256 {digest}",
            fix="run the step again with force",
        )
    return data
