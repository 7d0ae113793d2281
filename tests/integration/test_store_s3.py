"""The store in a bucket of a real S3 server, which runs in this process."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

from ml_pipelines._utils.canonical_json import Components
from ml_pipelines.contracts import ArtifactKind, ArtifactRef, Identity, StepResult
from ml_pipelines.errors import ArtifactCorrupt, ArtifactMissing, StoreUnavailable
from ml_pipelines.store.artifact_store import ArtifactStore
from ml_pipelines.store.cache_miss import components_key
from ml_pipelines.store.filesystems.s3 import BucketFileSystem
from ml_pipelines.store.lease import TTL_SECONDS
from ml_pipelines.store.retention import PruneReport, prune

WORKERS = Path(__file__).parents[1] / "unit" / "ml_pipelines" / "store" / "store_workers.py"
STEP = "split"
COMPONENTS: Components = {"step": STEP, "seed": 1}
KEY = components_key(COMPONENTS)
TASK = Identity(pipeline="shop", run_id="r1", task_id=STEP)
BUCKET = "artifacts"


def point_to(endpoint: str, patch: pytest.MonkeyPatch) -> None:
    """Send everything that speaks S3 in this process and its children to a server."""
    settings = {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    for name, value in {**settings, "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}.items():
        patch.setenv(name, value)
    S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        point_to(f"http://{host}:{port}", patch)
        S3FileSystem(use_listings_cache=False).mkdir(BUCKET)
        yield f"http://{host}:{port}"
    S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture
def store(server: str, request: pytest.FixtureRequest) -> ArtifactStore:
    """A store of its own for each test."""
    return ArtifactStore(f"s3://{BUCKET}/{hashlib.sha256(request.node.name.encode()).hexdigest()[:8]}/store")


@pytest.fixture
def s3(server: str) -> S3FileSystem:
    return S3FileSystem(use_listings_cache=False)


def commit(store: ArtifactStore, data: bytes = b"rows") -> StepResult:
    ref = store.put_bytes(data, kind="table", rows=3)
    result = StepResult(step=STEP, key=KEY, status="computed", reason="", outputs={"train": ref}, values={"n": 3})
    store.commit(STEP, KEY, result, COMPONENTS)
    return result


def names(store: ArtifactStore, folder: str = "") -> list[str]:
    return [entry.name for entry in store.files.entries(folder)]


def age(store: ArtifactStore, name: str) -> None:
    """Make an object older, in the server's own memory."""
    key = f"{store.uri}/{name}".removeprefix(f"s3://{BUCKET}/")
    actual = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].get_object(BUCKET, key)
    assert actual
    actual.last_modified = datetime(2026, 1, 1)


def is_young(store: ArtifactStore, name: str) -> bool:
    actual = store.files.stat(name)
    assert actual
    return datetime.now(UTC) - actual.modified < timedelta(minutes=5)


@pytest.mark.parametrize("kind", ["table", "json", "model", "image", "html"])
def test_bytes_come_back_as_they_were(store: ArtifactStore, kind: ArtifactKind, tmp_path: Path) -> None:
    ref = store.put_bytes(b"\0 data", kind=kind)
    assert ref.uri.startswith(f"{store.uri}/objects/{ref.sha256[:2]}/{ref.sha256}.")
    assert store.read(ref) == b"\0 data"
    path = Path(store.local_path(ref, str(tmp_path)))
    assert path.parent == tmp_path
    assert path.read_bytes() == b"\0 data"
    assert store.local_path(ref, str(tmp_path)) == str(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_large_file_is_uploaded_in_parts_and_is_gone(store: ArtifactStore, tmp_path: Path) -> None:
    data = os.urandom(1_000_000) * 101
    with store.scratch() as directory:
        path = Path(directory, "train.parquet")
        path.write_bytes(data)
        ref = store.put_file(str(path), kind="table", rows=1)
        assert not path.exists()
    assert (ref.bytes, ref.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert Path(store.local_path(ref, str(tmp_path))).stat().st_size == len(data)


def test_an_altered_object_is_not_used(store: ArtifactStore, s3: S3FileSystem, tmp_path: Path) -> None:
    ref = store.put_bytes(b"rows", kind="table")
    s3.pipe_file(ref.uri, b"rowz")
    for read in (lambda: store.read(ref), lambda: store.local_path(ref, str(tmp_path))):
        with pytest.raises(ArtifactCorrupt, match="an artifact was changed after it was stored") as error:
            read()
        assert error.value.where == ref.uri
        assert error.value.fix == "run the step that computed it again with `force`, which replaces it"


def test_a_missing_object_is_told(store: ArtifactStore, s3: S3FileSystem, tmp_path: Path) -> None:
    ref = store.put_bytes(b"rows", kind="table")
    s3.rm_file(ref.uri)
    for read in (lambda: store.read(ref), lambda: store.local_path(ref, str(tmp_path))):
        with pytest.raises(ArtifactMissing, match="an artifact does not exist") as error:
            read()
        assert error.value.where == ref.uri
    assert list(tmp_path.iterdir()) == []


def test_an_artifact_in_a_bucket_is_read_from_a_store_in_a_folder(store: ArtifactStore, tmp_path: Path) -> None:
    ref = store.put_bytes(b"rows", kind="table")
    assert ArtifactStore(str(tmp_path)).read(ref) == b"rows"


def test_a_result_is_found_again_until_its_object_is_gone(store: ArtifactStore, s3: S3FileSystem) -> None:
    assert store.lookup(STEP, KEY) is None
    assert store.explain_miss(STEP, COMPONENTS, TASK) == "miss: first time"
    created = commit(store)
    actual = store.lookup(STEP, KEY)
    assert actual
    assert actual.outputs == created.outputs
    store.record(TASK, created)
    assert store.explain_miss(STEP, {**COMPONENTS, "seed": 2}, TASK) == "miss: seed changed from 1 to 2"
    s3.pipe_file(created.outputs["train"].uri, b"r")
    assert (
        store.explain_miss(STEP, COMPONENTS, TASK)
        == "miss: output train of the earlier result has 1 bytes instead of 4"
    )
    s3.rm_file(created.outputs["train"].uri)
    assert store.lookup(STEP, KEY) is None
    assert store.explain_miss(STEP, COMPONENTS, TASK) == "miss: output train of the earlier result is gone"


def test_a_run_is_listed(store: ArtifactStore) -> None:
    created = commit(store)
    identity = Identity(pipeline="a.b", run_id="manual__2026-10-01T00:00:00+00:00/..", task_id="train", map_index=2)
    store.record(identity, created)
    assert store.runs("a.b") == [identity.run_id]
    (record,) = store.run("a.b", identity.run_id)
    assert (record.identity, record.result) == (identity, created)


def test_of_many_who_create_an_object_one_does(store: ArtifactStore) -> None:
    assert store.files.create("leases/a.json", b"first")
    with ThreadPoolExecutor(8) as pool:
        assert not any(pool.map(lambda _: store.files.create("leases/a.json", b"later"), range(16)))
    assert store.files.read("leases/a.json") == b"first"


def test_touching_an_object_makes_it_young_and_leaves_its_bytes(store: ArtifactStore) -> None:
    store.files.write("a.json", b"same")
    age(store, "a.json")
    store.files.touch("a.json")
    assert is_young(store, "a.json")
    assert store.files.read("a.json") == b"same"
    store.files.touch("b.json")
    assert store.files.stat("b.json") is None


def test_a_hit_makes_old_artifacts_young_so_that_retention_leaves_them(store: ArtifactStore) -> None:
    name = commit(store).outputs["train"].uri.removeprefix(f"{store.uri}/")
    age(store, name)
    assert not is_young(store, name)
    assert store.lookup(STEP, KEY)
    assert is_young(store, name)


def test_a_folder_is_no_file(store: ArtifactStore) -> None:
    store.files.write("objects/a.json", b"")
    assert store.files.stat("objects") is None


def test_of_eight_processes_one_computes_and_all_get_the_same(store: ArtifactStore) -> None:
    done = subprocess.run([sys.executable, WORKERS, "race", store.uri], capture_output=True, text=True, check=True)
    answers = [line.partition(" ") for line in done.stdout.splitlines()]
    assert sorted(computed for computed, _, _ in answers) == ["False"] * 7 + ["True"]
    (ref,) = {ref for _, _, ref in answers}
    assert len(store.read(ArtifactRef.model_validate_json(ref))) == 1_000_000
    assert names(store, "leases") == []


def test_the_lease_of_a_process_that_was_killed_is_free_at_once(store: ArtifactStore) -> None:
    with subprocess.Popen([sys.executable, WORKERS, "hold", store.uri], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "there\n"
        process.kill()
    assert len(names(store, "leases")) == 1
    started = time.monotonic()
    with store.lease(STEP, KEY) as held:
        assert held
    assert time.monotonic() - started < TTL_SECONDS / 2
    assert names(store, "leases") == []


def test_retention_removes_what_nothing_references(store: ArtifactStore) -> None:
    used, other = commit(store), store.put_bytes(b"loose", kind="json")
    assert prune(store, keep_days=30) == PruneReport(objects=0, bytes=0, manifests=0, runs=0, leftovers=0)
    later = datetime.now(UTC) + timedelta(days=2)
    assert prune(store, keep_days=30, now=later) == PruneReport(objects=1, bytes=5, manifests=0, runs=0, leftovers=0)
    assert store.read(used.outputs["train"]) == b"rows"
    with pytest.raises(ArtifactMissing):
        store.read(other)
    later = datetime.now(UTC) + timedelta(days=40)
    assert prune(store, keep_days=30, now=later) == PruneReport(objects=1, bytes=4, manifests=1, runs=0, leftovers=0)
    assert names(store) == []


def test_a_bucket_that_does_not_exist_is_told(server: str) -> None:
    store = ArtifactStore("s3://no-such-bucket/store")
    assert store.lookup(STEP, KEY) is None
    with pytest.raises(StoreUnavailable) as error:
        store.put_bytes(b"rows", kind="table")
    assert error.value.what == "the store can't be used"
    assert error.value.where.startswith("s3://no-such-bucket/store/objects/")
    assert "bucket does not exist" in error.value.got
    assert error.value.fix == "check that it exists and is reachable from this machine"


def test_a_server_that_does_not_answer_is_told_within_seconds(tmp_path: Path, server: str) -> None:
    with socket.socket() as free, pytest.MonkeyPatch.context() as patch:
        free.bind(("127.0.0.1", 0))  # bound, but nobody listens
        point_to(f"http://127.0.0.1:{free.getsockname()[1]}", patch)
        store, started = ArtifactStore(f"s3://{BUCKET}/store"), time.monotonic()
        ref = ArtifactRef(uri=f"{store.uri}/objects/a", sha256="a" * 64, bytes=1, kind="json")
        path = tmp_path / "a.json"
        path.write_bytes(b"rows")
        for action in (
            lambda: store.lookup(STEP, KEY),
            lambda: store.read(ref),
            lambda: store.put_bytes(b"rows", kind="table"),
            lambda: store.put_file(str(path), kind="table"),
        ):
            with pytest.raises(StoreUnavailable) as error:
                action()
            assert error.value.what == "the store can't be used"
            assert error.value.fix == "check that it exists and is reachable from this machine"
            assert error.value.where.startswith(f"{store.uri}/")
            assert "Could not connect to the endpoint URL" in error.value.got
        assert path.read_bytes() == b"rows", "a file that was not uploaded must stay"
        assert time.monotonic() - started < 40
    S3FileSystem.clear_instance_cache()


def test_an_address_without_rights_is_told(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("Access Denied")

    # The server of these tests lets everybody in. The object is patched, not its class: s3fs keeps one for all tests
    # of a process, and gives it functions of its own when it is made.
    monkeypatch.setattr(BucketFileSystem(store.uri)._system, "pipe_file", refuse)
    with pytest.raises(StoreUnavailable) as error:
        store.put_bytes(b"rows", kind="table")
    assert error.value.what == "this process has no access to the store"
    assert error.value.fix == "give its user permission to read and write"
    assert error.value.got == "PermissionError: Access Denied"
