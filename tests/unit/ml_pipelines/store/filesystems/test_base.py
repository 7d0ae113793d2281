"""A folder as a place for files, and what goes wrong with folders."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ml_pipelines.errors import RequestError, StoreUnavailable, TransientError
from ml_pipelines.store.filesystems.base import FileSystem
from ml_pipelines.store.filesystems.local import LocalFileSystem
from ml_pipelines.store.filesystems.open import open_filesystem

NOBODY = 65534
FULL = "free space; `ml-pipelines store prune` deletes results that are not needed"
FORBIDDEN = "give its user permission to read and write"


def run_as_root(*command: str) -> None:
    """Mounting is the only way to a disk that is really full or read-only, so these tests need the right to."""
    sudo = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
    done = subprocess.run([*sudo, *command], capture_output=True, text=True, check=False)
    if done.returncode:
        fix = "Run `make system-test` as root, or let its user use sudo."
        pytest.fail(f"{' '.join(command)}: {done.stderr.strip()}. {fix}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    if shutil.which("mount") is None:
        pytest.fail("there is no `mount`: these tests need Linux")
    mounted = tmp_path / "disk"
    mounted.mkdir()
    run_as_root("mount", "-t", "tmpfs", "-o", "size=1m,mode=0777", "tmpfs", str(mounted))
    try:
        yield mounted
    finally:
        run_as_root("umount", "--lazy", str(mounted))


@contextmanager
def without_rights(folder: Path) -> Iterator[None]:
    """Nobody may write to a folder, not even root."""
    folder.chmod(0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
        folder.chmod(0o755)


def content(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def write(files: FileSystem) -> None:
    files.write("objects/a.json", b"x" * 2_000_000)


def write_durably(files: FileSystem) -> None:
    files.write("manifests/a.json", b"x" * 2_000_000, durable=True)


def create(files: FileSystem) -> None:
    files.create("leases/a.json", b"x" * 2_000_000)


@pytest.mark.root
@pytest.mark.parametrize("action", [write, write_durably, create])
def test_a_full_disk_is_told_and_nothing_half_written_is_left(disk: Path, action: Callable[[FileSystem], None]) -> None:
    files = LocalFileSystem(str(disk))
    with pytest.raises(StoreUnavailable) as error:
        action(files)
    assert error.value.what == "the store is full"
    assert error.value.fix == FULL
    assert error.value.where.startswith(f"file://{disk}/")
    assert "No space left on device" in error.value.got
    assert content(disk) == []
    files.write("objects/b.json", b"small")
    assert files.read("objects/b.json") == b"small"


@pytest.mark.root
def test_a_full_disk_leaves_the_file_that_was_there(disk: Path) -> None:
    files = LocalFileSystem(str(disk))
    files.write("a.json", b"before")
    with pytest.raises(StoreUnavailable, match="the store is full"):
        files.write("a.json", b"x" * 2_000_000)
    assert files.read("a.json") == b"before"


@pytest.mark.root
def test_a_file_that_comes_from_another_disk_is_copied(disk: Path, tmp_path: Path) -> None:
    source = tmp_path / "a.parquet"
    source.write_bytes(b"rows")
    files = LocalFileSystem(str(disk))
    files.move_in(str(source), "objects/a.parquet")
    assert not source.exists()
    assert content(disk) == ["objects/a.parquet"]
    assert files.read("objects/a.parquet") == b"rows"


@pytest.mark.root
def test_a_file_that_does_not_fit_stays_where_it_was(disk: Path, tmp_path: Path) -> None:
    source = tmp_path / "a.parquet"
    source.write_bytes(b"x" * 2_000_000)
    with pytest.raises(StoreUnavailable, match="the store is full"):
        LocalFileSystem(str(disk)).move_in(str(source), "objects/a.parquet")
    assert source.stat().st_size == 2_000_000
    assert content(disk) == []


@pytest.mark.root
def test_a_read_only_disk_is_told_and_can_be_read(disk: Path) -> None:
    files = LocalFileSystem(str(disk))
    files.write("a.json", b"before")
    run_as_root("mount", "-o", "remount,ro", str(disk))
    with pytest.raises(StoreUnavailable) as error:
        files.write("a.json", b"after")
    assert error.value.what == "the store is read-only"
    assert error.value.fix == "mount it writable, or choose another store"
    assert files.read("a.json") == b"before"


@pytest.mark.parametrize("action", [write, write_durably, create])
def test_a_folder_without_rights_is_told(tmp_path: Path, action: Callable[[FileSystem], None]) -> None:
    with without_rights(tmp_path), pytest.raises(StoreUnavailable) as error:
        action(LocalFileSystem(str(tmp_path)))
    assert error.value.what == "this process has no access to the store"
    assert error.value.fix == FORBIDDEN
    assert isinstance(error.value, TransientError)
    assert content(tmp_path) == []


def test_a_scratch_directory_without_rights_is_told(tmp_path: Path) -> None:
    with without_rights(tmp_path), pytest.raises(StoreUnavailable, match="this process has no access to the store"):
        LocalFileSystem(str(tmp_path)).scratch().__enter__()


@pytest.mark.parametrize(
    "action",
    [
        lambda files: files.read("a"),
        lambda files: files.write("a", b""),
        lambda files: files.stat("a"),
        lambda files: files.local("a/b", "."),
        lambda files: list(files.entries("a")),
    ],
)
def test_a_store_that_is_a_file_is_told(tmp_path: Path, action: Callable[[FileSystem], object]) -> None:
    (tmp_path / "store").write_text("not a folder")
    with pytest.raises(StoreUnavailable, match="the store can't be used") as error:
        action(LocalFileSystem(str(tmp_path / "store")))
    assert error.value.fix == "check that it exists and is reachable from this machine"
    assert "Not a directory" in error.value.got


def test_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    files = LocalFileSystem(str(tmp_path))
    files.touch("a")
    files.delete("a")
    assert files.read("a") is None
    assert files.stat("a") is None
    assert files.local("a", ".") is None
    assert list(files.entries("a")) == []


def test_of_many_who_create_a_file_one_does(tmp_path: Path) -> None:
    files = LocalFileSystem(str(tmp_path))
    assert [files.create("a", b"first"), files.create("a", b"second")] == [True, False]
    assert files.read("a") == b"first"


def test_a_moved_file_is_as_young_as_its_arrival(tmp_path: Path) -> None:
    source = tmp_path / "old"
    source.write_bytes(b"")
    os.utime(source, (0, 0))
    files = LocalFileSystem(str(tmp_path / "store"))
    files.move_in(str(source), "a")
    actual = files.stat("a")
    assert actual
    assert actual.modified.year > 1970


def test_a_plain_path_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_filesystem("store").uri == f"file://{tmp_path}/store"
    assert open_filesystem(f"file://{tmp_path}/a b%20/").uri == f"file://{tmp_path}/a b%20"


@pytest.mark.parametrize("uri", ["gs://bucket/a", "file://folder", "s3://", "https://host/a"])
def test_what_is_no_address_of_a_store_is_told(uri: str) -> None:
    with pytest.raises(RequestError) as error:
        open_filesystem(uri)
    assert str(error.value) == (
        "this is not an address of an artifact store\n"
        "  expected: file:///folder or s3://bucket/folder\n"
        f"  got: {uri}\n"
        "  fix: correct the store's URI"
    )
