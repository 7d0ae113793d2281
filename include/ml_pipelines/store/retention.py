"""Retention: remove what nothing needs any more, while others read and write.

A recipe or run that is removed is removed first, then the objects that no remaining one references. What was written
or found in the last day stays, as its manifest or record may still be on the way; and reports, which the ledger names.
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
_LONGEST_DAYS = 365_000  # a thousand years are for ever


class PruneReport(Contract):
    """What was removed, or would be.

    Attributes:
        objects: number of artifacts.
        bytes: their size.
        recipes: number of manifests.
        runs: number of runs.
        leftovers: number of leases and temporary files that nobody owns any more, of stories of runs that are gone, and
            of what was handed to containers that are.
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
    """Remove old runs, recipes that no remaining run used, and objects that neither references.

    Args:
        store: what to clean.
        keep_days: how long runs and recipes are kept, at least 1.
        keep: digests or URIs of artifacts that must stay, such as those of registered models.
        dry_run: remove nothing, only report.
        now: the moment that ages are counted to, if not the present.

    Raises:
        RequestError: `keep_days` is too short, or an item of `keep` names no artifact.
        StoreUnavailable: the store can't be read or written. What is removed by then was not needed.
    """
    if not keep_days >= 1:  # nor a number that is none
        raise RequestError(
            "what is younger than a day can't be removed",
            expected="keep_days of at least 1",
            got=str(keep_days),
            fix="give a longer time; a run in progress needs its results",
        )
    kept = {_digest(item) for item in keep}
    now = now or datetime.now(UTC)
    before = now - timedelta(days=min(keep_days, _LONGEST_DAYS))
    old_runs, records = _runs(store, before)
    old_recipes, recent = _recipes(store, before, {record.result.key for record in records})
    if not dry_run:
        _delete(store, [*old_runs, *old_recipes])
        _delete(store, _orphaned_publications(store, recent, before))
    manifests = store.documents(recent, Manifest)
    results: list[Manifest | StepResult] = [*manifests, *(record.result for record in records)]
    kept |= {ref.sha256 for result in results for ref in result.outputs.values()}
    every = (entry for entry in store.files.entries("objects") if not entry.name.endswith(".html"))
    objects = [entry for entry in every if _is_loose(entry, kept, now)]
    leases = [entry for entry in store.files.entries("leases") if now - entry.modified > GRACE_PERIOD]
    handed = [entry for entry in store.files.entries("containers") if entry.modified < before]
    stories = _stories(store, before, {run_of(each.name) for each in old_runs})
    temporaries = _temporaries(store, now)
    if not dry_run:
        objects = [entry for entry in objects if _delete_if_loose(store, entry, kept, now)]
        _delete(store, [*leases, *handed, *stories])
        _remove(temporaries)
    return PruneReport(
        objects=len(objects),
        bytes=sum(entry.bytes for entry in objects),
        manifests=len(old_recipes),
        runs=len({run_of(entry.name) for entry in old_runs}),
        leftovers=len(leases) + len(handed) + len(stories) + len(temporaries),
    )


def _digest(item: str) -> str:
    found = re.search(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])", item)
    if found is None:
        raise RequestError(
            "an artifact to keep is not known by its digest",
            expected="64 hex digits, or the URI of an artifact of a store",
            got=item,
            fix="correct the list of what to keep; nothing has been removed",
        )
    return found[0]


def _runs(store: ArtifactStore, before: datetime) -> tuple[list[FileInfo], list[RunRecord]]:
    """The files of runs that were last heard of before a moment, and the records of the others."""
    entries = list(store.files.entries("runs"))
    recent = {run_of(entry.name) for entry in entries if entry.modified >= before}
    old = [entry for entry in entries if run_of(entry.name) not in recent]
    return old, store.documents((entry.name for entry in entries if run_of(entry.name) in recent), RunRecord)


def _recipes(store: ArtifactStore, before: datetime, used: Collection[str]) -> tuple[list[FileInfo], list[str]]:
    """Recipes made before a moment that nobody used, and the names of the others."""
    entries = list(store.files.entries("manifests"))
    needed = {entry.name for entry in entries if entry.modified >= before or PurePosixPath(entry.name).stem in used}
    return [entry for entry in entries if entry.name not in needed], sorted(needed)


def _orphaned_publications(store: ArtifactStore, recipes: list[str], before: datetime) -> list[FileInfo]:
    """Old notes on publishing results that are not in the store any more."""
    keys = {PurePosixPath(name).stem for name in recipes}
    entries = store.files.entries("published")
    return [each for each in entries if each.modified < before and PurePosixPath(each.name).parent.name not in keys]


def _stories(store: ArtifactStore, before: datetime, old: Collection[tuple[str, str]]) -> list[FileInfo]:
    """What was said of runs that are removed; of runs without records, what was last changed before a moment."""
    entries = list(store.files.entries("run_states"))
    recorded = {run_of(entry.name) for entry in store.files.entries("runs")} - set(old)
    recent = {run_of(entry.name) for entry in entries if entry.modified >= before}
    forgotten = [entry for entry in entries if run_of(entry.name) not in recent | recorded]
    return forgotten + [entry for entry in store.files.entries("pending") if entry.modified < before]


def _is_loose(entry: FileInfo, kept: Collection[str], now: datetime) -> bool:
    return PurePosixPath(entry.name).stem not in kept and now - entry.modified > GRACE_PERIOD


def _delete_if_loose(store: ArtifactStore, entry: FileInfo, kept: Collection[str], now: datetime) -> bool:
    # Since it was listed, somebody may have made the same again or found it, which makes it young.
    latest = store.files.stat(entry.name)
    if latest is None or not _is_loose(latest, kept, now):
        return False
    store.files.delete(entry.name)
    return True


def _delete(store: ArtifactStore, entries: list[FileInfo]) -> None:
    for entry in entries:
        store.files.delete(entry.name)


def _temporaries(store: ArtifactStore, now: datetime) -> list[Path]:
    """What processes that have ended left in `tmp`. Those of other hosts can't be asked: theirs stays for a week."""
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
