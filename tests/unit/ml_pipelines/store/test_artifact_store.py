"""The store in a folder."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_pipelines._utils.canonical_json import Components
from ml_pipelines.contracts import ArtifactKind, ArtifactRef, Identity, StepResult
from ml_pipelines.errors import ArtifactCorrupt, ArtifactMissing
from ml_pipelines.store.artifact_store import ArtifactStore
from ml_pipelines.store.cache_miss import components_key
from ml_pipelines.store.layout import container_file, run_state_folder, watch_name
from ml_pipelines.store.lease import TTL_SECONDS

WORKERS = Path(__file__).with_name("store_workers.py")
STEP = "split"
COMPONENTS: Components = {"step": STEP, "seed": 1, "parameters": {"split": {"test": 0.2}}, "inputs": {"table": "a"}}
KEY = components_key(COMPONENTS)
AGAIN = "run the step that computed it again with `force`, which replaces it"


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(f"file://{tmp_path}/store")


def path_of(ref: ArtifactRef) -> Path:
    return Path(ref.uri.removeprefix("file://"))


def result(store: ArtifactStore, key: str = KEY, data: bytes = b"rows") -> StepResult:
    ref = store.put_bytes(data, kind="table", rows=3)
    return StepResult(
        step=STEP,
        key=key,
        status="computed",
        reason="miss: first time",
        outputs={"train": ref},
        values={"n": 3},
        seconds=9.0,
    )


def identity(pipeline: str = "shop", run_id: str = "r1", task_id: str = STEP) -> Identity:
    return Identity(pipeline=pipeline, run_id=run_id, task_id=task_id)


def commit_run(store: ArtifactStore, components: Components, task: Identity) -> None:
    """Commit a result and record it as that of a task."""
    key = components_key(components)
    committed = result(store, key)
    store.commit(STEP, key, committed, components)
    store.record(task, committed)


def files_below(store: ArtifactStore, folder: str) -> list[Path]:
    return [path for path in Path(store.uri.removeprefix("file://"), folder).rglob("*") if path.is_file()]


@contextmanager
def worker(command: str, store: ArtifactStore) -> Iterator[subprocess.Popen[str]]:
    """A process that has said that it is where it should be."""
    with subprocess.Popen([sys.executable, WORKERS, command, store.uri], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "there\n"
        yield process
        process.kill()


# Artifacts


@given(st.binary(max_size=100), st.sampled_from(["table", "json", "model", "image", "html"]))
def test_bytes_come_back_as_they_were(data: bytes, kind: ArtifactKind) -> None:
    with TemporaryDirectory() as folder:
        store = ArtifactStore(folder)
        ref = store.put_bytes(data, kind=kind)
        assert (ref.sha256, ref.bytes, ref.kind) == (hashlib.sha256(data).hexdigest(), len(data), kind)
        assert store.read(ref) == data
        assert Path(store.local_path(ref, "unused")).read_bytes() == data


def test_a_file_is_moved_to_its_digest(store: ArtifactStore) -> None:
    with store.scratch() as directory:
        path = Path(directory, "train.parquet")
        path.write_bytes(b"rows")
        inode = path.stat().st_ino
        ref = store.put_file(str(path), kind="table", rows=3)
        assert not path.exists()
    digest = hashlib.sha256(b"rows").hexdigest()
    assert ref == ArtifactRef(
        uri=f"{store.uri}/objects/{digest[:2]}/{digest}.parquet", sha256=digest, bytes=4, kind="table", rows=3
    )
    assert path_of(ref).stat().st_ino == inode, "it was copied"
    assert not Path(directory).exists()


def test_a_scratch_directory_ends_with_an_error_too(store: ArtifactStore) -> None:
    with pytest.raises(ZeroDivisionError), store.scratch() as directory:
        _ = 1 / 0
    assert not Path(directory).exists()


def test_a_file_that_is_not_there_cannot_be_stored(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissing) as error:
        store.put_file(str(tmp_path / "no.parquet"), kind="table")
    assert str(error.value) == (
        f"the file to store does not exist\n  where: {tmp_path}/no.parquet\n  fix: write the file first"
    )


@pytest.mark.parametrize("damage", [b"", b"row", b"rowz", b"rows and more"])
def test_an_altered_artifact_is_not_used_and_mended_by_the_next_put(store: ArtifactStore, damage: bytes) -> None:
    ref = store.put_bytes(b"rows", kind="table")
    path_of(ref).write_bytes(damage)
    for read in (lambda: store.read(ref), lambda: store.local_path(ref, "unused")):
        with pytest.raises(ArtifactCorrupt) as error:
            read()
        assert error.value.what == "an artifact was changed after it was stored"
        assert error.value.where == ref.uri
        assert error.value.expected == f"sha256 {ref.sha256} of 4 bytes"
        assert error.value.got == f"sha256 {hashlib.sha256(damage).hexdigest()} of {len(damage)} bytes"
        assert error.value.fix == AGAIN
    assert store.put_bytes(b"rows", kind="table") == ref
    assert store.read(ref) == b"rows"


def test_a_missing_artifact_is_told(store: ArtifactStore) -> None:
    ref = store.put_bytes(b"rows", kind="table")
    path_of(ref).unlink()
    for read in (lambda: store.read(ref), lambda: store.local_path(ref, "unused")):
        with pytest.raises(ArtifactMissing) as error:
            read()
        assert error.value.what == "an artifact does not exist"
        assert error.value.where == ref.uri
        assert error.value.expected == f"4 bytes with sha256 {ref.sha256}"
        assert error.value.got == f"nothing on host {socket.gethostname()}"
        assert error.value.fix == (
            "run the step that computed it again; if other machines have it, mount the store's folder here under the "
            "same path, or use a store in s3://"
        )


def test_an_artifact_of_another_store_is_read_where_it_is(store: ArtifactStore, tmp_path: Path) -> None:
    other = ArtifactStore(str(tmp_path / "other"))
    ref = other.put_bytes(b"rows", kind="table")
    assert store.read(ref) == b"rows"
    assert store.local_path(ref, "unused") == str(path_of(ref))


def test_a_store_that_has_been_moved_still_has_its_artifacts_and_results(store: ArtifactStore, tmp_path: Path) -> None:
    created = result(store)
    store.commit(STEP, KEY, created, COMPONENTS)
    (tmp_path / "store").rename(tmp_path / "moved")
    moved = ArtifactStore(str(tmp_path / "moved"))
    assert moved.read(created.outputs["train"]) == b"rows"
    actual = moved.lookup(STEP, KEY)
    assert actual
    assert actual.outputs["train"].uri == created.outputs["train"].uri.replace("/store/", "/moved/")


# Recipes


def test_a_result_is_found_again(store: ArtifactStore) -> None:
    created = result(store)
    before = datetime.now(UTC)
    store.commit(STEP, KEY, created, COMPONENTS)
    actual = store.lookup(STEP, KEY)
    assert actual
    assert before <= actual.created_at <= datetime.now(UTC)
    assert actual.components == COMPONENTS
    assert actual.result == created.model_copy(update={"status": "cached", "reason": "hit", "seconds": 0.0})


def test_the_last_commit_counts(store: ArtifactStore) -> None:
    store.commit(STEP, KEY, result(store), COMPONENTS)
    store.commit(STEP, KEY, result(store, data=b"other rows"), COMPONENTS)
    actual = store.lookup(STEP, KEY)
    assert actual
    assert store.read(actual.outputs["train"]) == b"other rows"
    assert len(files_below(store, "manifests")) == 1


def test_explain_miss_names_the_change_since_the_nearest_result(store: ArtifactStore) -> None:
    assert store.lookup(STEP, KEY) is None
    assert store.explain_miss(STEP, COMPONENTS, identity()) == "miss: first time"
    far: Components = {**COMPONENTS, "seed": 2, "inputs": {"table": "b"}}
    for number, components in enumerate((COMPONENTS, far)):
        commit_run(store, components, identity(run_id=f"r{number}"))
    near: Components = {**COMPONENTS, "parameters": {"split": {"test": 0.3}}}
    assert store.explain_miss(STEP, near, identity()) == "miss: parameters.split.test changed from 0.2 to 0.3"
    assert store.explain_miss("train", near, identity(task_id="train")) == "miss: first time"


def test_explain_miss_compares_with_the_same_pipeline_only(store: ArtifactStore) -> None:
    other: Components = {**COMPONENTS, "parameters": {"target": "price"}}
    commit_run(store, other, identity(pipeline="other"))
    assert store.explain_miss(STEP, COMPONENTS, identity()) == "miss: first time"
    commit_run(store, {**COMPONENTS, "seed": 3}, identity(run_id="r0"))
    assert store.explain_miss(STEP, COMPONENTS, identity()) == "miss: seed changed from 3 to 1"


def test_explain_miss_knows_a_result_that_another_pipeline_computed(store: ArtifactStore) -> None:
    commit_run(store, COMPONENTS, identity(pipeline="other"))
    actual = store.lookup(STEP, KEY)
    assert actual
    store.record(identity(run_id="r0"), actual.result)
    changed: Components = {**COMPONENTS, "seed": 4}
    assert store.explain_miss(STEP, changed, identity()) == "miss: seed changed from 1 to 4"


def test_explain_miss_names_three_of_many_changes(store: ArtifactStore) -> None:
    old: Components = {"facts": dict.fromkeys("abcde", 1)}
    new: Components = {"facts": dict.fromkeys("abcde", 2)}
    commit_run(store, old, identity())
    assert store.explain_miss(STEP, new, identity()) == (
        "miss: fact a changed from 1 to 2; fact b changed from 1 to 2; fact c changed from 1 to 2 and 2 more"
    )


def test_explain_miss_compares_with_the_latest_twenty_runs(store: ArtifactStore) -> None:
    for seed in range(21):
        commit_run(store, {"parameters": {"a": 1}, "seed": seed}, identity(run_id=f"r{seed}"))
        os.utime(
            Path(store.uri.removeprefix("file://"), "runs", "shop", f"r{seed}", STEP, f"{STEP}.json"), (seed, seed)
        )
    # The run with seed 0 would be the nearest, but is too old; of equally near runs, the latest is named.
    miss = store.explain_miss(STEP, {"parameters": {"a": 1}, "seed": 99}, identity())
    assert miss == "miss: seed changed from 20 to 99"
    miss = store.explain_miss(STEP, {"parameters": {"a": 2}, "seed": 0}, identity())
    assert miss.startswith("miss: parameters.a changed from 1 to 2;")


def test_a_result_whose_artifact_is_gone_is_a_miss(store: ArtifactStore) -> None:
    created = result(store)
    store.commit(STEP, KEY, created, COMPONENTS)
    path_of(created.outputs["train"]).unlink()
    assert store.lookup(STEP, KEY) is None
    assert store.explain_miss(STEP, COMPONENTS, identity()) == "miss: output train of the earlier result is gone"


def test_a_result_whose_artifact_is_cut_off_is_a_miss(store: ArtifactStore) -> None:
    created = result(store)
    store.commit(STEP, KEY, created, COMPONENTS)
    path_of(created.outputs["train"]).write_bytes(b"r")
    assert store.lookup(STEP, KEY) is None
    assert (
        store.explain_miss(STEP, COMPONENTS, identity())
        == "miss: output train of the earlier result has 1 bytes instead of 4"
    )


@pytest.mark.parametrize("text", ["", "{", "[]", '{"step": "split"}', "\xff"])
def test_a_manifest_that_cannot_be_read_is_a_miss(store: ArtifactStore, text: str) -> None:
    store.commit(STEP, KEY, result(store), COMPONENTS)
    (manifest,) = files_below(store, "manifests")
    manifest.write_text(text, encoding="latin-1")
    assert store.lookup(STEP, KEY) is None
    assert store.explain_miss(STEP, COMPONENTS, identity()) == "miss: the manifest of the earlier result can't be read"
    other: Components = {**COMPONENTS, "seed": 2}
    assert store.explain_miss(STEP, other, identity()) == "miss: first time"


def test_a_hit_makes_old_artifacts_young_so_that_retention_leaves_them(store: ArtifactStore) -> None:
    created = result(store)
    store.commit(STEP, KEY, created, COMPONENTS)
    old = (datetime.now(UTC) - timedelta(days=40)).timestamp()
    os.utime(path_of(created.outputs["train"]), (old, old))
    assert store.lookup(STEP, KEY)
    assert path_of(created.outputs["train"]).stat().st_mtime > old + 39 * 86400


# Runs


def test_a_run_is_listed_in_the_order_in_which_its_tasks_ended(store: ArtifactStore) -> None:
    created = result(store)
    run = {"pipeline": "churn", "run_id": "manual__2026-10-01T00:00:00+00:00"}
    identities = [
        Identity(**run, task_id="preprocess_data"),
        *(Identity(**run, task_id="train", map_index=i) for i in (1, 0)),
    ]
    for identity in identities:
        store.record(identity, created)
    store.record(Identity(pipeline="churn", run_id="other", task_id="preprocess_data"), created)
    store.record(Identity(pipeline="churn.more", run_id="manual", task_id="preprocess_data"), created)
    records = store.run("churn", run["run_id"])
    assert [record.identity for record in records] == identities
    assert all(record.result == created for record in records)
    assert store.runs("churn") == ["other", run["run_id"]]
    assert store.runs("never") == []
    assert store.run("churn", "never") == []
    assert store.pipelines("manual") == ["churn.more"]
    assert store.pipelines("never") == []


def test_a_retried_task_replaces_its_record(store: ArtifactStore) -> None:
    identity = Identity(pipeline="p", run_id="r", task_id="t")
    for reason in ("miss: first time", "hit"):
        store.record(identity, result(store).model_copy(update={"reason": reason}))
    (record,) = store.run("p", "r")
    assert record.result.reason == "hit"


def test_each_step_of_a_task_has_a_record(store: ArtifactStore) -> None:
    identity = Identity(pipeline="p", run_id="r", task_id="preprocess_data")
    for step in ("preprocess", "split"):
        store.record(identity, result(store).model_copy(update={"step": step}))
    assert [record.result.step for record in store.run("p", "r")] == ["preprocess", "split"]


def test_a_run_id_cannot_leave_the_store(store: ArtifactStore, tmp_path: Path) -> None:
    identity = Identity(pipeline="../../p", run_id="../..", task_id="/etc/passwd")
    store.record(identity, result(store))
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert store.runs("../../p") == ["../.."]
    assert [record.identity for record in store.run("../../p", "../..")] == [identity]


# Crashes and company


def test_of_eight_processes_one_computes_and_all_get_the_same(store: ArtifactStore) -> None:
    done = subprocess.run([sys.executable, WORKERS, "race", store.uri], capture_output=True, text=True, check=True)
    answers = [line.partition(" ") for line in done.stdout.splitlines()]
    assert sorted(computed for computed, _, _ in answers) == ["False"] * 7 + ["True"]
    (ref,) = {ref for _, _, ref in answers}
    assert len(store.read(ArtifactRef.model_validate_json(ref))) == 1_000_000
    assert files_below(store, "leases") == files_below(store, "tmp") == []


def test_a_process_killed_while_it_writes_an_object_leaves_none(store: ArtifactStore) -> None:
    with worker("put", store):
        pass
    assert files_below(store, "objects") == []
    assert len(files_below(store, "tmp")) == 1, "it was not in the middle of it"


def test_a_process_killed_while_it_commits_leaves_no_result_and_no_lease(store: ArtifactStore) -> None:
    key = components_key({"step": STEP, "seed": 1})
    with worker("commit", store):
        pass
    assert len(files_below(store, "tmp")) == 1, "it was not in the middle of it"
    assert store.lookup(STEP, key) is None
    assert store.explain_miss(STEP, {"step": STEP, "seed": 1}, identity()) == "miss: first time"
    started = time.monotonic()
    with store.lease(STEP, key) as held:
        assert held
    assert time.monotonic() - started < TTL_SECONDS / 2


def test_importing_the_store_imports_nothing_heavy() -> None:
    heavy = ("polars", "pandas", "sklearn", "pyarrow", "numpy", "mlflow", "dvc", "fsspec", "upath", "s3fs", "botocore")
    script = (
        "import sys, ml_pipelines.store.artifact_store, ml_pipelines.store.retention;"
        "ml_pipelines.store.artifact_store.ArtifactStore('store').lookup('split', '0');"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ast.literal_eval(done.stdout) == []


def test_a_manifest_can_be_read_by_people(store: ArtifactStore) -> None:
    store.commit(STEP, KEY, result(store), COMPONENTS)
    (manifest,) = files_below(store, "manifests")
    assert manifest.name == f"{KEY}.json"
    assert json.loads(manifest.read_text()).keys() >= {"step", "key", "outputs", "values", "created_at", "components"}
    shutil.rmtree(store.uri.removeprefix("file://"))
    assert store.lookup(STEP, KEY) is None


HOSTILE = [
    "..",
    "../../etc/passwd",
    "/etc/passwd",
    "a/../../b",
    ".",
    "",
    "a\0b",
    "a\nb",
    "%2e%2e/",
    "C:\\x",
    "~root",
    "a" * 400,
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_inside_the_store(tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    store = ArtifactStore(str(outside / "store"))
    identity = Identity(pipeline=name, run_id=name, task_id=name)
    result = StepResult(step=name, key="0" * 64, status="computed", reason="miss")
    store.commit(name, "0" * 64, result, {})
    store.save_publication(name, "0" * 64, name, {})
    store.record(identity, result)
    with store.lease(name, name):
        pass
    store.files.write(watch_name(name, name), b"{}")
    store.files.write(f"{run_state_folder(name, name, name)}/state.json", b"{}")
    store.files.write(container_file(name, "request.json"), b"{}")
    assert [path.name for path in outside.iterdir()] == ["store"]
    assert [path.name for path in tmp_path.iterdir()] == ["outside"]
    assert [record.identity for record in store.run(name, name)] == [identity]
    assert store.lookup(name, "0" * 64) is not None
