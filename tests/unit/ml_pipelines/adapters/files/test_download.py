from __future__ import annotations

import errno
import gzip
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import botocore.exceptions as boto
import polars as pl
import pytest

from ml_pipelines.adapters.files.download import storage_error, storage_errors
from ml_pipelines.adapters.files.source import FileDataSource
from ml_pipelines.errors import (
    PipelineError,
    ServiceUnavailable,
    SourceError,
    SourceNotFound,
    SourceUnreadable,
    StoreUnavailable,
    TransientError,
)
from ml_pipelines.runner.artifact_io import disk_errors
from ml_pipelines.spec.sources import FileSource


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """Let every write beyond a size fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "so"), StoreUnavailable),
        (OSError(errno.EDQUOT, "so"), StoreUnavailable),
        (OSError(errno.ESTALE, "so"), ServiceUnavailable),
        (OSError(errno.EIO, "so"), ServiceUnavailable),
        (OSError(errno.EACCES, "so"), SourceError),
        (OSError(errno.ENOENT, "so"), SourceNotFound),
        (OSError(errno.EISDIR, "so"), SourceUnreadable),
        (OSError(errno.ENAMETOOLONG, "so"), SourceError),
        (boto.NoCredentialsError(), SourceError),
        (ValueError("embedded null byte"), SourceUnreadable),
        (KeyError("so"), SourceError),
    ],
)
def test_every_error_of_a_storage_is_one_of_this_package(error: Exception, kind: type[PipelineError]) -> None:
    with pytest.raises(PipelineError) as caught, storage_errors("here"):
        raise error
    assert type(caught.value) is kind
    assert caught.value.where == "here"
    assert caught.value.fix


def test_an_error_that_is_not_of_a_storage() -> None:
    assert storage_error(ValueError("so"), "here") is None


@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz"])
def test_a_full_disk_while_a_source_is_copied(tmp_path: Path, name: str) -> None:
    content = b"id,label\n" + b"1,0\n" * 50_000
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    (tmp_path / "out").mkdir()
    source = FileDataSource(FileSource(path=str(tmp_path / name)), {})
    pin = source.pin()
    with pytest.raises(StoreUnavailable) as caught, file_limit(100_000):
        source.fetch(pin, str(tmp_path / "out"))
    assert isinstance(caught.value, TransientError)
    assert caught.value.what == "the disk is full"


def test_a_full_disk_while_a_table_is_written(tmp_path: Path) -> None:
    table = pl.LazyFrame({"x": range(100_000)})
    with pytest.raises(StoreUnavailable) as caught, file_limit(10_000), disk_errors(str(tmp_path)):
        table.sink_parquet(tmp_path / "table.parquet")
    assert "os error 27" in caught.value.got


def test_a_nul_in_a_path_is_an_error_of_this_package(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        FileDataSource(FileSource(path=f"{tmp_path}/\0.csv"), {}).pin()
