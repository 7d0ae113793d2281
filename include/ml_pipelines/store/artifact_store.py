"""The artifact store: content-addressed files, and the manifests that say which recipe made them.

A crash leaves a whole file or none. Only manifests are synced to disk: an object that a power cut has shortened has
the wrong size, which is a miss, and its digest is checked before every use; but a manifest is what was promised.
Names and documents: :mod:`ml_pipelines.store.layout`. Where the bytes go: :mod:`ml_pipelines.store.filesystems.base`.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ml_pipelines._utils.canonical_json import Components
from ml_pipelines.contracts import ArtifactKind, ArtifactRef, Identity, JsonValue, StepResult
from ml_pipelines.errors import ArtifactCorrupt, ArtifactMissing
from ml_pipelines.store.cache_miss import components_key, differences
from ml_pipelines.store.filesystems.base import FileSystem
from ml_pipelines.store.filesystems.open import open_filesystem
from ml_pipelines.store.layout import (
    Document,
    Manifest,
    Published,
    RunRecord,
    lease_name,
    manifest_name,
    object_name,
    parse_document,
    published_name,
    quote_name,
    record_name,
    run_folder,
    run_of,
    task_of_record,
)
from ml_pipelines.store.lease import hold_lease

__all__ = ["GRACE_PERIOD", "ArtifactStore", "Manifest", "RunRecord"]

GRACE_PERIOD = timedelta(days=1)
"""How long an object that nothing references yet is safe from retention."""

_COMPARED_RUNS = 20
_CONNECTIONS = 8


class ArtifactStore:
    """A store in a folder or a bucket. Cheap to make; nothing is read or written until it is asked for.

    Every method raises StoreUnavailable if the store can't be read or written.

    Args:
        uri: `file:///...`, a plain path, or `s3://bucket/...`.

    Raises:
        RequestError: any other URI.
        MissingExtra: the package for S3 is not installed.
    """

    def __init__(self, uri: str) -> None:
        self.files: FileSystem = open_filesystem(uri)
        self.uri = self.files.uri

    def __repr__(self) -> str:
        return f"ArtifactStore({self.uri!r})"

    # Artifacts

    def put_file(self, path: str, *, kind: ArtifactKind, rows: int | None = None) -> ArtifactRef:
        """Move a local file into the store; it is gone from where it was.

        One that is there already is replaced by the same bytes: that mends a damaged one and makes it young again,
        so that retention leaves it alone until the manifest is there.

        Raises:
            ArtifactMissing: there is no such file.
        """
        try:
            digest, size = _digest(path)
        except FileNotFoundError as exc:
            raise ArtifactMissing("there is no file to store", where=path, fix="write the file first") from exc
        self.files.move_in(path, object_name(digest, kind))
        return self._ref(digest, size, kind, rows)

    def put_bytes(self, data: bytes, *, kind: ArtifactKind, rows: int | None = None) -> ArtifactRef:
        """Write bytes into the store; otherwise as :meth:`put_file`."""
        digest = hashlib.sha256(data).hexdigest()
        self.files.write(object_name(digest, kind), data)
        return self._ref(digest, len(data), kind, rows)

    def read(self, ref: ArtifactRef) -> bytes:
        """The bytes of an artifact, verified.

        Raises:
            ArtifactMissing: there are none.
            ArtifactCorrupt: they are not those that the reference promises.
        """
        files, name = self._where(ref)
        data = files.read(name)
        if data is None:
            raise _missing(ref)
        _verify(ref, hashlib.sha256(data).hexdigest(), len(data))
        return data

    def local_path(self, ref: ArtifactRef, directory: str) -> str:
        """Path of a local file with the bytes of an artifact, verified; not to be written to.

        Args:
            ref: the artifact.
            directory: where to put the file if the store is remote; a local store gives its own.

        Raises:
            ArtifactMissing: there are no bytes.
            ArtifactCorrupt: they are not those that the reference promises.
        """
        files, name = self._where(ref)
        path = files.local(name, directory)
        if path is None:
            raise _missing(ref)
        _verify(ref, *_digest(path))
        return path

    def scratch(self) -> AbstractContextManager[str]:
        """A local directory to work in, removed at the end, from where :meth:`put_file` is a rename if it can be."""
        return self.files.scratch()

    # Recipes

    def lookup(self, step: str, key: str) -> Manifest | None:
        """What a recipe made, None if that is not there or no longer whole; :meth:`explain` tells which."""
        found = self._find(step, key)
        return found if isinstance(found, Manifest) else None

    def commit(self, step: str, key: str, result: StepResult, components: Components) -> None:
        """Write the manifest of a recipe whose outputs are in the store, in place of an earlier one."""
        manifest = Manifest(
            step=step,
            key=key,
            outputs=result.outputs,
            values=result.values,
            created_at=datetime.now(UTC),
            components=components,
        )
        self.files.write(manifest_name(step, key), manifest.model_dump_json(indent=1).encode(), durable=True)

    def explain_miss(self, step: str, components: Components, identity: Identity) -> str:
        """Return why a key is a miss, as a sentence that begins with `miss:`.

        The components are compared with those of the latest results that the same task of the same pipeline used. A
        store holds the results of many pipelines, and a difference to another pipeline explains nothing.

        Args:
            step: name of the step.
            components: components of the key.
            identity: the task that runs the step.
        """
        state = self._find(step, components_key(components))
        if isinstance(state, str):
            return f"miss: {state}"
        changes = [differences(old.components, components) for old in self._past_manifests(step, identity)]
        if not changes:
            return "miss: first time"
        nearest = min(changes, key=len)
        more = f" and {len(nearest) - 3} more" if len(nearest) > 3 else ""
        return f"miss: {'; '.join(nearest[:3])}{more}"

    def _past_manifests(self, step: str, identity: Identity) -> list[Manifest]:
        """Return the manifests of a step that the latest runs of a task used, the latest first."""
        entries = self.files.entries(f"runs/{quote_name(identity.pipeline)}")
        task = [entry for entry in entries if task_of_record(entry.name) == identity.task_id]
        latest = sorted(task, key=lambda entry: entry.modified, reverse=True)[:_COMPARED_RUNS]
        records = self.documents([entry.name for entry in latest], RunRecord)
        keys = dict.fromkeys(record.result.key for record in records if record.result.step == step)
        return self.documents([manifest_name(step, key) for key in keys], Manifest)

    def load_publication(self, step: str, key: str, place: str) -> dict[str, JsonValue] | None:
        """What publishing a result somewhere told, None if it was not published there."""
        found = parse_document(self.files.read(published_name(step, key, place)), Published)
        return found.values if found else None

    def save_publication(self, step: str, key: str, place: str, values: dict[str, JsonValue]) -> None:
        """Keep what publishing a result somewhere told, so that a hit need not publish it again."""
        published = Published(values=values)
        self.files.write(published_name(step, key, place), published.model_dump_json().encode(), durable=True)

    def lease(self, step: str, key: str) -> AbstractContextManager[bool]:
        """Hold the lease of a key, or wait for its holder; see :func:`ml_pipelines.store.lease.hold_lease`.

        Look the recipe up again once you are in: it may be there. This only saves work. Correctness never depends on
        it, as objects are content-addressed and a manifest is replaced as a whole by an equal one.
        """
        name = manifest_name(step, key)
        before = self.files.stat(name)
        return hold_lease(self.files, lease_name(step, key), appeared=lambda: self.files.stat(name) != before)

    # Runs

    def record(self, identity: Identity, result: StepResult) -> None:
        """Keep what a task got; the same task again replaces it."""
        record = RunRecord(identity=identity, result=result, recorded_at=datetime.now(UTC))
        self.files.write(record_name(identity), record.model_dump_json(indent=1).encode())

    def run(self, pipeline: str, run_id: str) -> list[RunRecord]:
        """What the tasks of a run got, in the order in which they ended; empty if there is no such run."""
        names = [entry.name for entry in self.files.entries(run_folder(pipeline, run_id))]
        return sorted(self.documents(names, RunRecord), key=lambda record: record.recorded_at)

    def runs(self, pipeline: str) -> list[str]:
        """The ids of a pipeline's runs, the one that was last heard of first."""
        entries = sorted(
            self.files.entries(f"runs/{quote_name(pipeline)}"), key=lambda entry: entry.modified, reverse=True
        )
        return list(dict.fromkeys(run_of(entry.name)[1] for entry in entries))

    def pipelines(self, run_id: str) -> list[str]:
        """The pipelines that have a run of this id, by name."""
        runs = {run_of(entry.name) for entry in self.files.entries("runs")}
        return sorted(pipeline for pipeline, name in runs if name == run_id)

    # What retention needs too

    def documents(self, names: Iterable[str], kind: type[Document]) -> list[Document]:
        """The manifests or records of these names, without those that are gone or can't be read."""
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            return [found for data in pool.map(self.files.read, names) if (found := parse_document(data, kind))]

    def _find(self, step: str, key: str) -> Manifest | str | None:
        """The manifest of a recipe if its outputs are whole, else why it is no use; None if there is none."""
        data = self.files.read(manifest_name(step, key))
        if data is None:
            return None
        manifest = parse_document(data, Manifest)
        if manifest is None:
            return "the manifest of the earlier result can't be read"
        for name, ref in manifest.outputs.items():
            if flaw := self._flaw(ref):
                return f"output {name} of the earlier result {flaw}"
        # The store may have been moved, or be mounted elsewhere.
        outputs = {name: self._ref(ref.sha256, ref.bytes, ref.kind, ref.rows) for name, ref in manifest.outputs.items()}
        return manifest.model_copy(update={"outputs": outputs})

    def _flaw(self, ref: ArtifactRef) -> str | None:
        entry = self.files.stat(object_name(ref.sha256, ref.kind))
        if entry is None:
            return "is gone"
        if entry.bytes != ref.bytes:
            return f"has {entry.bytes} bytes instead of {ref.bytes}"
        if datetime.now(UTC) - entry.modified > GRACE_PERIOD / 2:
            # Whoever asked is about to use it: retention must leave it alone until that is on record.
            self.files.touch(entry.name)
        return None

    def _where(self, ref: ArtifactRef) -> tuple[FileSystem, str]:
        """Where an artifact is: in this store under its digest, else where its reference says."""
        name = object_name(ref.sha256, ref.kind)
        if ref.uri == f"{self.uri}/{name}" or self.files.stat(name):
            return self.files, name
        folder, _, file = ref.uri.rpartition("/")
        return open_filesystem(folder), file

    def _ref(self, digest: str, size: int, kind: ArtifactKind, rows: int | None) -> ArtifactRef:
        return ArtifactRef(
            uri=f"{self.uri}/{object_name(digest, kind)}", sha256=digest, bytes=size, kind=kind, rows=rows
        )


def _digest(path: str) -> tuple[str, int]:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), file.tell()


def _verify(ref: ArtifactRef, digest: str, size: int) -> None:
    if digest != ref.sha256:
        raise ArtifactCorrupt(
            "an artifact is not what it was when it was stored",
            where=ref.uri,
            expected=f"sha256 {ref.sha256} of {ref.bytes} bytes",
            got=f"sha256 {digest} of {size} bytes",
            fix="run the step that made it again with `force`, which replaces it",
        )


def _missing(ref: ArtifactRef) -> ArtifactMissing:
    return ArtifactMissing(
        "an artifact is not there",
        where=ref.uri,
        expected=f"{ref.bytes} bytes with sha256 {ref.sha256}",
        got=f"nothing on host {socket.gethostname()}",
        fix="run the step that made it again; if other machines do have it, mount their store's folder here under the "
        "same path, or keep the store in s3://",
    )
