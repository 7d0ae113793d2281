"""What is removed, and above all what is not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ml_pipelines._utils.canonical_json import Components
from ml_pipelines.contracts import ArtifactRef, Decision, Identity, StepResult
from ml_pipelines.errors import RequestError, StoreError, StoreUnavailable
from ml_pipelines.ports.ledger_entry import RunDetails
from ml_pipelines.promotion.retained_artifacts import referenced_artifacts
from ml_pipelines.store.artifact_store import ArtifactStore
from ml_pipelines.store.cache_miss import components_key
from ml_pipelines.store.filesystems.base import FileInfo
from ml_pipelines.store.filesystems.local import LocalFileSystem
from ml_pipelines.store.layout import container_file, pending_folder, run_state_folder
from ml_pipelines.store.retention import PruneReport, prune
from ml_pipelines.testing import FakeLedger

WORKERS = Path(__file__).with_name("store_workers.py")
NOTHING = PruneReport(objects=0, bytes=0, manifests=0, runs=0, leftovers=0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> ArtifactStore:
    return ArtifactStore(str(root))


def commit(store: ArtifactStore, data: bytes) -> StepResult:
    """A recipe that made one artifact of these bytes."""
    components: Components = {"facts": {"data": data.decode()}}
    key = components_key(components)
    result = StepResult(
        step="split", key=key, status="computed", reason="", outputs={"a": store.put_bytes(data, kind="json")}
    )
    store.commit("split", key, result, components)
    return result


def age(root: Path, *, days: float, folder: str = "") -> None:
    """Make all files of a store older."""
    moment = (datetime.now(UTC) - timedelta(days=days)).timestamp()
    for path in (root / folder).rglob("*"):
        os.utime(path, (moment, moment))


def is_there(store: ArtifactStore, ref: ArtifactRef) -> bool:
    return Path(ref.uri.removeprefix("file://")).exists()


def snapshot(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if path.is_file()}


def test_what_was_said_of_a_run_goes_with_the_run(store: ArtifactStore, root: Path) -> None:
    created = commit(store, b"made")
    store.record(Identity(pipeline="p", run_id="old", task_id="a"), created)
    names = [f"{run_state_folder('p', run_id, 'slack #ml')}/state.json" for run_id in ("old", "by hand", "waiting")]
    names.append(f"{pending_folder('slack #ml')}/x.json")
    for name in names:
        store.files.write(name, b"{}")
    age(root, days=40)
    store.record(Identity(pipeline="p", run_id="waiting", task_id="a"), created)
    fresh = f"{run_state_folder('p', 'fresh', 'slack #ml')}/state.json"
    store.files.write(fresh, b"{}")
    assert prune(store, keep_days=30, dry_run=True).leftovers == 3
    assert prune(store, keep_days=30).leftovers == 3
    assert [store.files.stat(name) is not None for name in [*names, fresh]] == [False, False, True, False, True]


def test_an_empty_store_has_nothing_to_remove(store: ArtifactStore) -> None:
    assert prune(store, keep_days=30) == NOTHING


def test_old_recipes_and_runs_go_with_their_artifacts_and_young_ones_stay(store: ArtifactStore, root: Path) -> None:
    old = commit(store, b"old")
    store.record(Identity(pipeline="p", run_id="old", task_id="a"), old)
    store.record(Identity(pipeline="p", run_id="old", task_id="b"), old)
    age(root, days=40)
    young = commit(store, b"young")
    store.record(Identity(pipeline="p", run_id="young", task_id="a"), young)
    age(root, days=2, folder=f"objects/{young.outputs['a'].sha256[:2]}")
    assert prune(store, keep_days=30) == PruneReport(objects=1, bytes=3, manifests=1, runs=1, leftovers=0)
    assert not is_there(store, old.outputs["a"])
    assert store.lookup("split", old.key) is None
    assert store.lookup("split", young.key)
    assert store.runs("p") == ["young"]
    assert prune(store, keep_days=30) == NOTHING


def test_a_dry_run_reports_the_same_and_removes_nothing(store: ArtifactStore, root: Path) -> None:
    for data in (b"one", b"two", b"loose"):
        result = commit(store, data)
    store.record(Identity(pipeline="p", run_id="r", task_id="a"), result)
    store.files.write("leases/split/a.json", b"{}")
    store.files.write("tmp/elsewhere-1~1~1~ab", b"half")
    age(root, days=40)
    before = snapshot(root)
    dry = prune(store, keep_days=30, dry_run=True)
    assert snapshot(root) == before
    assert dry == PruneReport(objects=3, bytes=11, manifests=3, runs=1, leftovers=2)
    assert prune(store, keep_days=30) == dry
    assert snapshot(root) == set()


def test_a_recipe_that_a_remaining_run_used_stays(store: ArtifactStore, root: Path) -> None:
    used = commit(store, b"used")
    age(root, days=40)
    store.record(Identity(pipeline="p", run_id="r", task_id="a"), used)
    assert prune(store, keep_days=30) == NOTHING
    assert store.lookup("split", used.key)


def test_a_run_stays_whole_until_its_last_task_is_old(store: ArtifactStore, root: Path) -> None:
    first = commit(store, b"first")
    store.record(Identity(pipeline="p", run_id="r", task_id="a"), first)
    age(root, days=40)
    store.record(Identity(pipeline="p", run_id="r", task_id="b"), commit(store, b"second"))
    assert prune(store, keep_days=30) == NOTHING
    assert [record.identity.task_id for record in store.run("p", "r")] == ["a", "b"]


def test_an_artifact_that_two_recipes_made_stays_with_the_younger(store: ArtifactStore, root: Path) -> None:
    old = commit(store, b"same")
    age(root, days=40)
    components: Components = {"seed": 2}
    store.commit(
        "split", components_key(components), old.model_copy(update={"key": components_key(components)}), components
    )
    assert prune(store, keep_days=30) == PruneReport(objects=0, bytes=0, manifests=1, runs=0, leftovers=0)
    assert store.lookup("split", components_key(components))


@pytest.mark.parametrize("by", ["sha256", "uri"])
def test_what_must_be_kept_stays(store: ArtifactStore, root: Path, by: str) -> None:
    champion, other = commit(store, b"champion").outputs["a"], commit(store, b"other").outputs["a"]
    age(root, days=40)
    assert prune(store, keep_days=30, keep={getattr(champion, by)}).objects == 1
    assert is_there(store, champion)
    assert not is_there(store, other)


def test_an_artifact_whose_manifest_is_still_on_the_way_stays_for_a_day(store: ArtifactStore, root: Path) -> None:
    loose = store.put_bytes(b"loose", kind="json")
    age(root, days=0.9)
    assert prune(store, keep_days=1) == NOTHING
    age(root, days=1.1)
    assert prune(store, keep_days=1).objects == 1
    assert not is_there(store, loose)


def test_an_old_artifact_that_is_made_again_is_safe_before_its_manifest_is_there(
    store: ArtifactStore, root: Path
) -> None:
    store.put_bytes(b"again", kind="json")
    age(root, days=40)
    ref = store.put_bytes(b"again", kind="json")
    assert prune(store, keep_days=1) == NOTHING
    assert is_there(store, ref)


class FoundMeanwhile(LocalFileSystem):
    """Somebody finds the artifact in the moment between its being listed and its being removed."""

    def entries(self, folder: str) -> Iterator[FileInfo]:
        entries = list(super().entries(folder))
        if folder == "objects":
            for entry in entries:
                self.touch(entry.name)
        return iter(entries)


def test_an_artifact_that_is_found_while_others_are_removed_stays(store: ArtifactStore, root: Path) -> None:
    result = commit(store, b"old")
    age(root, days=40)
    store.files = FoundMeanwhile(str(root))
    assert prune(store, keep_days=30) == PruneReport(objects=0, bytes=0, manifests=1, runs=0, leftovers=0)
    assert is_there(store, result.outputs["a"])


class Unreadable(LocalFileSystem):
    """A disk that fails when a young manifest is read."""

    def read(self, name: str) -> bytes | None:
        raise StoreUnavailable("the store can't be used", where=name)


def test_nothing_is_removed_that_a_manifest_may_need_which_cannot_be_read_now(store: ArtifactStore, root: Path) -> None:
    result = commit(store, b"needed")
    age(root, days=2)
    store.files = Unreadable(str(root))
    with pytest.raises(StoreUnavailable):
        prune(store, keep_days=30)
    assert is_there(store, result.outputs["a"])


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_has_stays(
    store: ArtifactStore, root: Path
) -> None:
    command = [sys.executable, str(WORKERS), "scratch", store.uri]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "there\n"
        with store.scratch() as mine:
            assert len(list((root / "tmp").iterdir())) == 2
            assert prune(store, keep_days=30) == NOTHING
            process.kill()
            process.wait()
            assert prune(store, keep_days=30).leftovers == 1
            assert [str(path) for path in (root / "tmp").iterdir()] == [mine]


def test_what_another_host_left_stays_for_a_week_and_a_lease_for_a_day(store: ArtifactStore, root: Path) -> None:
    for name in ("leases/split/a.json", "tmp/elsewhere-1~1~1~ab", "tmp/by hand"):
        store.files.write(name, b"")
    age(root, days=0.9)
    assert prune(store, keep_days=30) == NOTHING
    age(root, days=6.9)
    assert prune(store, keep_days=30).leftovers == 1
    age(root, days=7.1)
    assert prune(store, keep_days=30).leftovers == 2
    assert snapshot(root) == set()


def test_other_files_in_the_store_are_left_alone(store: ArtifactStore, root: Path) -> None:
    store.files.write("notes/churn/entry.json", b"{}")
    age(root, days=400)
    assert prune(store, keep_days=30) == NOTHING
    assert len(snapshot(root)) == 1


FOREIGN = (
    "runs/notes.txt",
    "runs/p/notes.md",
    "objects/notes.txt",
    "manifests/notes.txt",
    "leases/x",
    "published/.keep",
)


def test_files_of_other_programs_in_the_folders_of_the_store_stay(store: ArtifactStore, root: Path) -> None:
    result = commit(store, b"old")
    store.record(Identity(pipeline="p", run_id="r", task_id="a"), result)
    for name in FOREIGN:
        store.files.write(name, b"theirs")
    assert (store.runs("p"), store.pipelines("r"), len(store.run("p", "r"))) == (["r"], ["p"], 1)
    age(root, days=400)
    assert prune(store, keep_days=30) == PruneReport(objects=1, bytes=3, manifests=1, runs=1, leftovers=0)
    assert snapshot(root) == {root / name for name in FOREIGN}


@pytest.mark.parametrize("folder", ["manifests", "runs"])
def test_nothing_is_removed_while_a_young_document_is_damaged(store: ArtifactStore, root: Path, folder: str) -> None:
    result = commit(store, b"needed")
    store.record(Identity(pipeline="p", run_id="r", task_id="a"), result)
    age(root, days=2)
    (path,) = (root / folder).rglob("*.json")
    path.write_bytes(b"<html>")
    before = snapshot(root)
    with pytest.raises(StoreError, match="can't be read") as error:
        prune(store, keep_days=1.5)
    assert (error.value.where, error.value.got) == (f"file://{path}", "6 bytes of another form")
    assert snapshot(root) == before


@pytest.mark.parametrize("keep_days", [0.9, 0, -1, float("nan")])
def test_a_run_in_progress_is_never_at_risk(store: ArtifactStore, keep_days: float) -> None:
    with pytest.raises(RequestError) as error:
        prune(store, keep_days=keep_days)
    assert str(error.value) == (
        "results of the last day can't be deleted\n"
        "  expected: keep_days of at least 1\n"
        f"  got: {keep_days}\n"
        "  fix: keep more days; a run in progress needs its results"
    )


@pytest.mark.parametrize("keep_days", [float("inf"), 1e300])
def test_for_ever_is_a_time_too(store: ArtifactStore, root: Path, keep_days: float) -> None:
    commit(store, b"old")
    age(root, days=4000)
    assert prune(store, keep_days=keep_days) == NOTHING


def test_something_to_keep_that_is_no_artifact_removes_nothing(store: ArtifactStore, root: Path) -> None:
    result = commit(store, b"old")
    age(root, days=40)
    with pytest.raises(RequestError, match="an artifact to keep has no digest") as error:
        prune(store, keep_days=30, keep={"models:/churn/1"})
    assert error.value.fix == "correct the list of artifacts to keep; nothing was deleted"
    assert store.lookup("split", result.key)


def test_what_was_handed_to_containers_goes_with_its_age(store: ArtifactStore, root: Path) -> None:
    for job in ("old", "new"):
        store.files.write(container_file(job, "request.json"), b"{}")
    age(root, days=31, folder="containers/old")
    assert prune(store, keep_days=30, dry_run=True).leftovers == 1
    assert prune(store, keep_days=30).leftovers == 1
    assert [entry.name for entry in store.files.entries("containers")] == ["containers/new/request.json"]


def test_what_the_ledger_tells_of_a_version_that_served_stays(store: ArtifactStore, root: Path) -> None:
    refs = {name: store.put_bytes(name.encode(), kind="json") for name in ("evaluation", "part", "loose")}
    ledger = FakeLedger()
    promoted = RunDetails(version="1", evaluation=refs["evaluation"], training=refs["part"])
    for run_id, details in {"promoted": promoted, "rejected": RunDetails(evaluation=refs["loose"])}.items():
        identity = Identity(pipeline="p", run_id=run_id, task_id="t")
        ledger.record(identity, Decision(outcome="held", model="m", reason="so"), details)
    age(root, days=40)
    assert prune(store, keep_days=30, keep=referenced_artifacts(ledger)).objects == 1
    assert store.read(refs["evaluation"]) == b"evaluation"
    assert store.read(refs["part"]) == b"part"
