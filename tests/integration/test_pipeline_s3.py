"""A pipeline whose store is a bucket of a real S3 server makes what it makes in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

from ml_pipelines.store.artifact_store import ArtifactStore

pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated:DeprecationWarning:mlflow"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    for name, value in {**settings, "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(name, value)
    S3FileSystem.clear_instance_cache()
    S3FileSystem(use_listings_cache=False).mkdir("pipelines")
    yield "s3://pipelines"
    S3FileSystem.clear_instance_cache()
    server.stop()


def created(store: ArtifactStore) -> dict[str, Any]:
    """Key and digests of every step of the run."""
    return {
        record.result.step: (record.result.key, {name: ref.sha256 for name, ref in record.result.outputs.items()})
        for record in store.run("shop", "first")
    }


def test_a_bucket_holds_what_a_folder_holds(shop: Any, bucket: str) -> None:
    shop.declare(model={"name": "bucket", "task": "classification"})
    assert shop.run("first", "--promote", "never").code == 0
    command = ["run", shop.yaml, "--store", f"{bucket}/store", "--promote", "never", "--run-id"]
    output = shop.command(*command, "first")
    assert output.code == 0, output
    assert "computed" in output.out
    remote = ArtifactStore(f"{bucket}/store")
    assert created(remote) == created(shop.store)
    assert {
        ref.uri.partition("/store/")[0] for run in remote.run("shop", "first") for ref in run.result.outputs.values()
    } == {bucket}
    assert shop.command(*command, "second").code == 0
    assert {run.result.status for run in remote.run("shop", "second")} == {"cached", "published"}
    assert "bucket" in shop.command("show", "second", "--pipeline", "shop", "--store", f"{bucket}/store").out
    assert not remote.files.stat("leases")
    assert not list(remote.files.entries("leases"))
