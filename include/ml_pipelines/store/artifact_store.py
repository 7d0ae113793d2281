"""The artifact store: content-addressed files, and a manifest for each cache key.

A crash leaves a complete file or none. Only manifests are synced to disk. A power failure can truncate an object. Its
size is then wrong, so the lookup misses. Each read also verifies the digest.
Names and documents: :mod:`ml_pipelines.store.layout`. File systems: :mod:`ml_pipelines.store.filesystems.base`.
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
from ml_pipelines.errors import ArtifactCorrupt, ArtifactMissing, StoreError
from ml_pipelines.store.cache_miss import components_key, differences
from ml_pipelines.store.filesystems.base import FileInfo, FileSystem
from ml_pipelines.store.filesystems.open import open_filesystem
from ml_pipelines.store.layout import (
    Document,
    Manifest,
    Published,
    RunRecord,
    is_own_name,
    lease_name,
    manifest_name,
    object_name,
    parse_document,
    published_name,
    quote_name,
    record_name,
    run_folder,
    run_of,
    step_of_record,
)
from ml_pipelines.store.lease import hold_lease
from ml_pipelines.store.signatures import ManifestKeys

__all__ = ["GRACE_PERIOD", "ArtifactStore", "Manifest", "RunRecord"]

GRACE_PERIOD = timedelta(days=1)
"""How long retention keeps an object without a reference. Its manifest may not be written yet."""

_COMPARED_RUNS = 20
_CONNECTIONS = 8


class ArtifactStore:
    """A store in a folder or a bucket. The constructor reads and writes nothing.

    Every method raises StoreUnavailable if the store can't be read or written.

    Args:
        uri: `file:///...`, a plain path, or `s3://bucket/...`.
        keys: keys of manifests. With keys, a manifest without a valid signature is a miss.

    Raises:
        RequestError: the URI has another form.
        MissingExtra: the package for S3 is not installed.
    """

    def __init__(self, uri: str, *, keys: ManifestKeys | None = None) -> None:
        self.keys = keys
        self.files: FileSystem = open_filesystem(uri)
        self.uri = self.files.uri

    def __repr__(self) -> str:
        return f"ArtifactStore({self.uri!r})"

    # Artifacts

    def put_file(self, path: str, *, kind: ArtifactKind, rows: int | None = None) -> ArtifactRef:
        """Move a local file into the store.

        It replaces an object of the same digest. That repairs a damaged object and renews its time, so that retention
        keeps it until the manifest is written.

        Raises:
            ArtifactMissing: the file does not exist.
        """
        try:
            digest, size = _digest(path)
        except FileNotFoundError as exc:
            raise ArtifactMissing("the file to store does not exist", where=path, fix="write the file first") from exc
        self.files.move_in(path, object_name(digest, kind))
        return self._ref(digest, size, kind, rows)

    def put_bytes(self, data: bytes, *, kind: ArtifactKind, rows: int | None = None) -> ArtifactRef:
        """Write bytes into the store; otherwise as :meth:`put_file`."""
        digest = hashlib.sha256(data).hexdigest()
        self.files.write(object_name(digest, kind), data)
        return self._ref(digest, len(data), kind, rows)

    def read(self, ref: ArtifactRef) -> bytes:
        """Return the verified bytes of an artifact.

        Raises:
            ArtifactMissing: the store does not have it.
            ArtifactCorrupt: the bytes do not have the digest of the reference.
        """
        files, name = self._where(ref)
        data = files.read(name)
        if data is None:
            raise _missing(ref)
        _verify(ref, hashlib.sha256(data).hexdigest(), len(data))
        return data

    def local_path(self, ref: ArtifactRef, directory: str) -> str:
        """Return the path of a local file with the verified bytes of an artifact. Do not write to it.

        Args:
            ref: the artifact.
            directory: folder for the file if the store is remote; a local store returns its own file.

        Raises:
            ArtifactMissing: the store does not have it.
            ArtifactCorrupt: the bytes do not have the digest of the reference.
        """
        files, name = self._where(ref)
        path = files.local(name, directory)
        if path is None:
            raise _missing(ref)
        try:
            _verify(ref, *_digest(path))
        except ArtifactCorrupt:
            if Path(path).parent == Path(directory):
                Path(path).unlink()  # a copy that is not complete; the next call downloads it again
            raise
        return path

    def scratch(self) -> AbstractContextManager[str]:
        """Return a temporary local directory.

        :meth:`put_file` renames a file of this directory instead of copying it, where the file system can.
        """
        return self.files.scratch()

    # Results

    def lookup(self, step: str, key: str) -> Manifest | None:
        """Return the manifest of a cache key; None on a miss, which :meth:`explain_miss` explains."""
        state = self._find(step, key)
        return state if isinstance(state, Manifest) else None

    def commit(self, step: str, key: str, result: StepResult, components: Components) -> None:
        """Write the manifest of a result whose outputs are in the store. It replaces an earlier manifest."""
        manifest = Manifest(
            step=step,
            key=key,
            outputs=result.outputs,
            values=result.values,
            created_at=datetime.now(UTC),
            components=components,
        )
        self.save_manifest(manifest)

    def read_manifest(self, step: str, key: str) -> Manifest | None:
        """Return a manifest without any check of its signature and outputs; None if it can't be read."""
        return parse_document(self.files.read(manifest_name(step, key)), Manifest)

    def save_manifest(self, manifest: Manifest) -> None:
        """Write a manifest, with a signature if this store has the signing key."""
        signed = self.keys.sign(manifest) if self.keys else manifest
        name = manifest_name(manifest.step, manifest.key)
        self.files.write(name, signed.model_dump_json(indent=1).encode(), durable=True)

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
        entries = self.entries(f"runs/{quote_name(identity.pipeline)}")
        same = [entry for entry in entries if step_of_record(entry.name) == (identity.task_id, step)]
        latest = sorted(same, key=lambda entry: entry.modified, reverse=True)[:_COMPARED_RUNS]
        records = self.documents([entry.name for entry in latest], RunRecord)
        keys = dict.fromkeys(record.result.key for record in records)
        return self.documents([manifest_name(step, key) for key in keys], Manifest)

    def load_publication(self, step: str, key: str, server: str) -> dict[str, JsonValue] | None:
        """Return the values that the server returned for a published result; None if it was not published there."""
        published = parse_document(self.files.read(published_name(step, key, server)), Published)
        return published.values if published else None

    def save_publication(self, step: str, key: str, server: str, values: dict[str, JsonValue]) -> None:
        """Store the values that the server returned for a published result; a hit then does not publish it again."""
        published = Published(values=values)
        self.files.write(published_name(step, key, server), published.model_dump_json().encode(), durable=True)

    def lease(self, step: str, key: str) -> AbstractContextManager[bool]:
        """Hold the lease of a key, or wait for its holder; see :func:`ml_pipelines.store.lease.hold_lease`.

        Once you hold the lease, look the key up again: the earlier holder may have stored the result. Without a lease
        results stay correct: objects are content-addressed, and each writer of a key replaces its whole manifest.
        """
        name = manifest_name(step, key)
        before = self.files.stat(name)
        return hold_lease(self.files, lease_name(step, key), appeared=lambda: self.files.stat(name) != before)

    # Runs

    def record(self, identity: Identity, result: StepResult) -> None:
        """Store the result of a task's step. It replaces the record of an earlier try."""
        record = RunRecord(identity=identity, result=result, recorded_at=datetime.now(UTC))
        self.files.write(record_name(identity, result.step), record.model_dump_json(indent=1).encode())

    def run(self, pipeline: str, run_id: str) -> list[RunRecord]:
        """Return the records of a run's steps, in the order in which they ended; empty for an unknown run."""
        names = [entry.name for entry in self.entries(run_folder(pipeline, run_id))]
        return sorted(self.documents(names, RunRecord), key=lambda record: record.recorded_at)

    def runs(self, pipeline: str) -> list[str]:
        """Return the ids of a pipeline's runs, the latest record first."""
        entries = sorted(self.entries(f"runs/{quote_name(pipeline)}"), key=lambda entry: entry.modified, reverse=True)
        return list(dict.fromkeys(run_of(entry.name)[1] for entry in entries))

    def pipelines(self, run_id: str) -> list[str]:
        """Return the names of the pipelines that have a run of this id, sorted."""
        runs = {run_of(entry.name) for entry in self.entries("runs")}
        return sorted(pipeline for pipeline, name in runs if name == run_id)

    def latest_run(self, step: str, pipeline: str | None = None) -> tuple[str, str] | None:
        """Return the pipeline and the id of the run that ran a step last; None without one.

        Args:
            step: name of the step.
            pipeline: the pipeline; by default any.
        """
        folder = "runs" if pipeline is None else f"runs/{quote_name(pipeline)}"
        entries = [entry for entry in self.entries(folder) if step_of_record(entry.name)[1] == step]
        return run_of(max(entries, key=lambda entry: entry.modified).name) if entries else None

    # Documents

    def entries(self, folder: str) -> list[FileInfo]:
        """Return the files of a folder whose names this store writes. Files of other programs are left alone."""
        return [entry for entry in self.files.entries(folder) if is_own_name(entry.name)]

    def documents(self, names: Iterable[str], kind: type[Document], *, complete: bool = False) -> list[Document]:
        """Return the documents of these names, without those that are deleted or can't be read.

        Args:
            names: names of files.
            kind: class of the documents.
            complete: whether a file that exists but can't be read is an error.

        Raises:
            StoreError: a file is not such a document, and `complete` is set.
        """

        def read(name: str) -> Document | None:
            data = self.files.read(name)
            document = parse_document(data, kind)
            if complete and data is not None and document is None:
                raise _unreadable(f"{self.uri}/{name}", kind.__name__, len(data))
            return document

        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            return [document for document in pool.map(read, names) if document]

    def _find(self, step: str, key: str) -> Manifest | str | None:
        """Return the manifest of a key, or why it can't be used; None without a manifest."""
        data = self.files.read(manifest_name(step, key))
        if data is None:
            return None
        manifest = parse_document(data, Manifest)
        if manifest is None:
            return "the manifest of the earlier result can't be read"
        if (manifest.step, manifest.key) != (step, key):
            return "the manifest of the earlier result belongs to another result"
        if self.keys and not self.keys.is_signed(manifest):
            return "the manifest of the earlier result has no valid signature"
        for name, ref in manifest.outputs.items():
            if flaw := self._flaw(ref):
                return f"output {name} of the earlier result {flaw}"
        # The addresses in a manifest are wrong if the store was moved or is mounted under another path.
        outputs = {name: self._ref(ref.sha256, ref.bytes, ref.kind, ref.rows) for name, ref in manifest.outputs.items()}
        return manifest.model_copy(update={"outputs": outputs})

    def _flaw(self, ref: ArtifactRef) -> str | None:
        entry = self.files.stat(object_name(ref.sha256, ref.kind))
        if entry is None:
            return "is gone"
        if entry.bytes != ref.bytes:
            return f"has {entry.bytes} bytes instead of {ref.bytes}"
        if datetime.now(UTC) - entry.modified > GRACE_PERIOD / 2:
            # The caller is about to use the object: retention must keep it until the run is recorded.
            self.files.touch(entry.name)
        return None

    def _where(self, ref: ArtifactRef) -> tuple[FileSystem, str]:
        """Return the file system and name of an artifact: in this store by digest, else at its own address."""
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
            "an artifact was changed after it was stored",
            where=ref.uri,
            expected=f"sha256 {ref.sha256} of {ref.bytes} bytes",
            got=f"sha256 {digest} of {size} bytes",
            fix="run the step that computed it again with `force`, which replaces it",
        )


def _unreadable(where: str, kind: str, size: int) -> StoreError:
    return StoreError(
        "a file of the store can't be read, so the artifacts that it references are unknown",
        where=where,
        expected=f"a {kind} as JSON",
        got=f"{size} bytes of another form",
        fix="try again; if the file is damaged, delete it",
    )


def _missing(ref: ArtifactRef) -> ArtifactMissing:
    return ArtifactMissing(
        "an artifact does not exist",
        where=ref.uri,
        expected=f"{ref.bytes} bytes with sha256 {ref.sha256}",
        got=f"nothing on host {socket.gethostname()}",
        fix="run the step that computed it again; if other machines have it, mount the store's folder here under the "
        "same path, or use a store in s3://",
    )
