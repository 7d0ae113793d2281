"""Retention: delete old results, while other processes read and write.

Manifests and runs are deleted first, then the objects that no remaining manifest or run references. Objects that were
written or found in the last day stay, since their manifest or record may not be written yet. Reports stay, since the
ledger refers to them.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath

from ml_pipelines._utils.process import has_ended, is_local_process
from ml_pipelines.contracts import Contract, StepResult
from ml_pipelines.errors import RequestError
from ml_pipelines.store.artifact_store import GRACE_PERIOD, ArtifactStore, Manifest, RunRecord
from ml_pipelines.store.filesystems.base import FileInfo
from ml_pipelines.store.filesystems.local import LocalFileSystem
from ml_pipelines.store.layout import run_of

__all__ = ["PruneReport", "prune"]

_FOREIGN_LEFTOVERS = timedelta(days=7)
_LONGEST_DAYS = 365_000  # more would overflow a date


class PruneReport(Contract):
    """The numbers of deleted files; those that would be deleted in a dry run.

    Attributes:
        objects: number of artifacts.
        bytes: their size.
        manifests: number of manifests.
        runs: number of runs.
        leftovers: number of expired leases, temporary files of ended processes, states of deleted runs, and files of
            ended containers.
    """

    objects: int
    bytes: int
    manifests: int
    runs: int
    leftovers: int


def prune(
    store: ArtifactStore,
    *,
    keep_days: float,
    keep: Collection[str] = (),
    dry_run: bool = False,
    now: datetime | None = None,
) -> PruneReport:
    """Delete old runs, manifests that no remaining run uses, and objects that neither references.

    Args:
        store: the store.
        keep_days: number of days that runs and manifests are kept, at least 1.
        keep: digests or URIs of artifacts that must stay, such as those of registered models.
        dry_run: delete nothing, only count.
        now: time from which ages are counted; by default the current time.

    Raises:
        RequestError: `keep_days` is too short, or an item of `keep` names no artifact.
        StoreUnavailable: the store can't be read or written. The files deleted before were not needed.
        StoreError: a manifest or a record can't be read, so the artifacts that it references are unknown.
    """
    if not keep_days >= 1:  # also false for NaN
        raise RequestError(
            "results of the last day can't be deleted",
            expected="keep_days of at least 1",
            got=str(keep_days),
            fix="keep more days; a run in progress needs its results",
        )
    kept = {_digest(item) for item in keep}
    now = now or datetime.now(UTC)
    before = now - timedelta(days=min(keep_days, _LONGEST_DAYS))
    old_runs, records = _runs(store, before)
    old_manifests, recent = _manifests(store, before, {record.result.key for record in records})
    manifests = store.documents(recent, Manifest, complete=True)
    if not dry_run:
        _delete(store, [*old_runs, *old_manifests])
        _delete(store, _orphaned_publications(store, recent, before))
    results: list[Manifest | StepResult] = [*manifests, *(record.result for record in records)]
    kept |= {ref.sha256 for result in results for ref in result.outputs.values()}
    entries = (entry for entry in store.entries("objects") if not entry.name.endswith(".html"))
    objects = [entry for entry in entries if _is_loose(entry, kept, now)]
    leases = [entry for entry in store.entries("leases") if now - entry.modified > GRACE_PERIOD]
    handed = [entry for entry in store.entries("containers") if entry.modified < before]
    run_states = _run_states(store, before, {run_of(entry.name) for entry in old_runs})
    temporaries = _temporaries(store, now)
    if not dry_run:
        objects = [entry for entry in objects if _delete_if_loose(store, entry, kept, now)]
        _delete(store, [*leases, *handed, *run_states])
        _remove(temporaries)
    return PruneReport(
        objects=len(objects),
        bytes=sum(entry.bytes for entry in objects),
        manifests=len(old_manifests),
        runs=len({run_of(entry.name) for entry in old_runs}),
        leftovers=len(leases) + len(handed) + len(run_states) + len(temporaries),
    )


def _digest(item: str) -> str:
    match = re.search(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])", item)
    if match is None:
        raise RequestError(
            "an artifact to keep has no digest",
            expected="64 hex digits, or the URI of an artifact of a store",
            got=item,
            fix="correct the list of artifacts to keep; nothing was deleted",
        )
    return match[0]


def _runs(store: ArtifactStore, before: datetime) -> tuple[list[FileInfo], list[RunRecord]]:
    """Return the files of runs whose last record is older than a time, and the records of the other runs."""
    entries = list(store.entries("runs"))
    recent = {run_of(entry.name) for entry in entries if entry.modified >= before}
    old = [entry for entry in entries if run_of(entry.name) not in recent]
    names = (entry.name for entry in entries if run_of(entry.name) in recent)
    return old, store.documents(names, RunRecord, complete=True)


def _manifests(store: ArtifactStore, before: datetime, used: Collection[str]) -> tuple[list[FileInfo], list[str]]:
    """Return the manifests that are older than a time and not used, and the names of the others."""
    entries = list(store.entries("manifests"))
    needed = {entry.name for entry in entries if entry.modified >= before or PurePosixPath(entry.name).stem in used}
    return [entry for entry in entries if entry.name not in needed], sorted(needed)


def _orphaned_publications(store: ArtifactStore, manifests: list[str], before: datetime) -> list[FileInfo]:
    """Return the old publications of results that the store does not have any more."""
    keys = {PurePosixPath(name).stem for name in manifests}
    entries = store.entries("published")
    return [entry for entry in entries if entry.modified < before and PurePosixPath(entry.name).parent.name not in keys]


def _run_states(store: ArtifactStore, before: datetime, old: Collection[tuple[str, str]]) -> list[FileInfo]:
    """Return the states of deleted runs, and those of runs without records that are older than a time."""
    entries = list(store.entries("run_states"))
    recorded = {run_of(entry.name) for entry in store.entries("runs")} - set(old)
    recent = {run_of(entry.name) for entry in entries if entry.modified >= before}
    forgotten = [entry for entry in entries if run_of(entry.name) not in recent | recorded]
    return forgotten + [entry for entry in store.entries("pending") if entry.modified < before]


def _is_loose(entry: FileInfo, kept: Collection[str], now: datetime) -> bool:
    return PurePosixPath(entry.name).stem not in kept and now - entry.modified > GRACE_PERIOD


def _delete_if_loose(store: ArtifactStore, entry: FileInfo, kept: Collection[str], now: datetime) -> bool:
    # Since it was listed, another process may have stored or found the same object, which renews its time.
    latest = store.files.stat(entry.name)
    if latest is None or not _is_loose(latest, kept, now):
        return False
    store.files.delete(entry.name)
    return True


def _delete(store: ArtifactStore, entries: list[FileInfo]) -> None:
    for entry in entries:
        store.files.delete(entry.name)


def _temporaries(store: ArtifactStore, now: datetime) -> list[Path]:
    """Return the files of ended processes in `tmp`. Those of other hosts stay for a week: their end is unknown."""
    if not isinstance(store.files, LocalFileSystem):
        return []
    return [path for path in (store.files.root / "tmp").glob("*") if _is_left(path, now)]


def _is_left(path: Path, now: datetime) -> bool:
    owner = path.name.rpartition("~")[0]
    if is_local_process(owner):
        return has_ended(owner)
    return path.exists() and now.timestamp() - path.stat().st_mtime > _FOREIGN_LEFTOVERS.total_seconds()


def _remove(paths: list[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
