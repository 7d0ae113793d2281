from __future__ import annotations

import errno
import gzip
import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from moto.server import ThreadedMotoServer

from ml_pipelines.adapters.files import download
from ml_pipelines.adapters.files.source import FileDataSource
from ml_pipelines.errors import (
    PipelineError,
    ServiceUnavailable,
    SourceError,
    SourceNotFound,
    SourceUnreadable,
    StoreUnavailable,
)
from ml_pipelines.spec.sources import FileSource

CUSTOMERS = b"customer_id,label\n1,0\n2,1\n"


def source(path: object, **environment: str) -> FileDataSource:
    return FileDataSource(FileSource(path=str(path)), environment)


def text_of(error: pytest.ExceptionInfo[PipelineError]) -> str:
    return str(error.value)


@pytest.fixture
def out(tmp_path: Path) -> str:
    (tmp_path / "out").mkdir()
    return str(tmp_path / "out")


@pytest.fixture
def local(tmp_path: Path) -> Path:
    path = tmp_path / "customers.csv"
    path.write_bytes(CUSTOMERS)
    return path


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_local_file_is_pinned_by_its_content_and_copied(local: Path, out: str, scheme: str) -> None:
    adapter = source("${ML_DATA_F}/customers.csv", ML_DATA_F=f"{scheme}{local.parent}")
    pin = adapter.pin()
    assert pin.model_dump() == {
        "source": "file",
        "location": "${ML_DATA_F}/customers.csv",
        "revision": None,
        "digest": f"sha256:{hashlib.sha256(CUSTOMERS).hexdigest()}",
        "bytes": len(CUSTOMERS),
    }
    fetched = Path(adapter.fetch(pin, out))
    local.write_bytes(b"changed later")
    assert (fetched.parent, fetched.name, fetched.read_bytes()) == (Path(out), "customers.csv", CUSTOMERS)


def test_a_file_that_changes_after_the_pin_is_refused(local: Path, out: str) -> None:
    pin = source(local).pin()
    local.write_bytes(CUSTOMERS + b"3,1\n")
    with pytest.raises(SourceUnreadable, match="the file has another digest than the data pin") as error:
        source(local).fetch(pin, out)
    assert f"expected: {pin.digest}" in text_of(error)
    assert "start a new run" in text_of(error)
    assert not list(Path(out).iterdir())


def test_a_compressed_file_is_decompressed(tmp_path: Path, out: str) -> None:
    path = tmp_path / "CUSTOMERS.CSV.gz"
    path.write_bytes(gzip.compress(CUSTOMERS[:20]) + gzip.compress(CUSTOMERS[20:]))
    fetched = source(path).fetch(source(path).pin(), out)
    assert (Path(fetched).name, Path(fetched).read_bytes()) == ("customers.csv", CUSTOMERS)
    assert [entry.name for entry in Path(out).iterdir()] == ["customers.csv"]


@pytest.mark.parametrize(
    ("content", "what", "fix"),
    [
        (CUSTOMERS, "the file is not compressed", "let its name end in .csv"),
        (gzip.compress(CUSTOMERS, mtime=0)[:-9], "the file can't be decompressed", "compress the file again"),
        (gzip.compress(CUSTOMERS) + b"more", "the file can't be decompressed", "compress the file again"),
    ],
    ids=["not compressed", "cut short", "bytes after the end"],
)
def test_a_file_that_can_not_be_decompressed(tmp_path: Path, out: str, content: bytes, what: str, fix: str) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(content)
    with pytest.raises(SourceUnreadable, match=what) as error:
        source(path).fetch(source(path).pin(), out)
    assert fix in error.value.fix


def test_a_compressed_file_may_not_grow_without_bound(tmp_path: Path, out: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(download, "_UNPACKED_BYTES", 10_000)
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 1_000_000))
    with pytest.raises(SourceUnreadable, match="the decompressed file is too large") as error:
        source(path).fetch(source(path).pin(), out)
    assert f"from {path.stat().st_size:,} bytes" in error.value.got


def test_a_full_disk_is_reported(tmp_path: Path, out: str, monkeypatch: Any) -> None:
    def full(path: Path) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(gzip, "open", full)
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(CUSTOMERS))
    with pytest.raises(StoreUnavailable, match="the disk is full"):
        source(path).fetch(source(path).pin(), out)


def test_parquet_is_passed_on_as_it_is(tmp_path: Path, out: str) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1")
    assert Path(source(path).fetch(source(path).pin(), out)).read_bytes() == b"PAR1"


@pytest.mark.parametrize(
    ("path", "kind", "what", "fix"),
    [
        ("{0}/costumers.csv", SourceNotFound, "there is no such file", "did you mean 'customers.csv'?"),
        ("{0}/none/a.csv", SourceNotFound, "there is no such file", "mount the folder where the task runs"),
        ("{0}/x.xlsx", SourceUnreadable, "format of the file is not supported", "convert the file to CSV or Parquet"),
        ("{0}", SourceUnreadable, "the path is a folder", "name one file"),
        ("{0}/*.parquet", SourceUnreadable, "patterns are not supported", "name one file"),
        ("abc://{0}/a.csv", SourceNotFound, "the protocol of the address is not supported", "correct the path"),
    ],
)
def test_what_is_no_file(local: Path, path: str, kind: type[SourceError], what: str, fix: str) -> None:
    (local.parent / "x.xlsx").touch()
    with pytest.raises(kind, match=what) as error:
        source(path.format(local.parent)).pin()
    assert fix in text_of(error)


def test_a_variable_that_is_not_set() -> None:
    with pytest.raises(SourceNotFound, match="the environment variable ML_DATA_F is not set") as error:
        source("${ML_DATA_F}/a.csv").pin()
    assert "where: data.file.path" in text_of(error)


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    import s3fs

    credentials = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**credentials, "AWS_ENDPOINT_URL": s3_server, "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    fs = s3fs.S3FileSystem()
    if not fs.exists("data"):
        fs.mkdir("data")
    fs.pipe_file("data/customers.csv", CUSTOMERS)
    yield fs
    s3fs.S3FileSystem.clear_instance_cache()


def test_an_object_is_pinned_by_its_etag(bucket, out: str) -> None:
    adapter = source("s3://data/customers.csv")
    pin = adapter.pin()
    md5 = hashlib.md5(CUSTOMERS, usedforsecurity=False).hexdigest()
    assert (pin.location, pin.digest, pin.bytes) == ("s3://data/customers.csv", f"etag:{md5}", len(CUSTOMERS))
    assert Path(adapter.fetch(pin, out)).read_bytes() == CUSTOMERS


def test_an_object_that_changes_after_the_pin_is_refused(bucket, out: str) -> None:
    pin = source("s3://data/customers.csv").pin()
    bucket.pipe_file("data/customers.csv", CUSTOMERS + b"3,1\n")
    with pytest.raises(SourceUnreadable, match="the file has another digest than the data pin"):
        source("s3://data/customers.csv").fetch(pin, out)


@pytest.mark.parametrize("path", ["s3://data/none.csv", "s3://nowhere/none.csv"])
def test_no_such_object(bucket, path: str) -> None:
    with pytest.raises(SourceNotFound, match="there is no such file") as error:
        source(path).pin()
    assert f"where: {path}" in text_of(error)


@pytest.mark.parametrize("path", ["s3://data/a.csv", "http://user:hunter2@{0}/a.csv?sig=hunter2"])
def test_a_storage_that_does_not_answer(bucket, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{address}")
        type(bucket).clear_instance_cache()
        with pytest.raises(ServiceUnavailable, match="the storage does not answer") as error:
            source(path.format(address)).pin()
    assert "check the address, the network" in text_of(error)
    assert "hunter2" not in text_of(error)


def test_an_object_without_an_etag_is_pinned_by_its_content(out: str) -> None:
    import fsspec

    fsspec.filesystem("memory").pipe_file("/data/customers.csv", CUSTOMERS)
    adapter = source("memory://data/customers.csv")
    pin = adapter.pin()
    assert pin.digest == f"sha256:{hashlib.sha256(CUSTOMERS).hexdigest()}"
    assert Path(adapter.fetch(pin, out)).read_bytes() == CUSTOMERS


def test_a_download_that_is_cut_off_is_refused(local: Path, out: str) -> None:
    pin = source(local).pin()
    longer = pin.model_copy(update={"digest": None, "bytes": local.stat().st_size + 1})
    with pytest.raises(ServiceUnavailable, match="the download is not complete") as error:
        source(local).fetch(longer, out)
    assert (error.value.expected, error.value.got) == (f"{longer.bytes:,} bytes", f"{pin.bytes:,} bytes")
    assert not list(Path(out).iterdir())
