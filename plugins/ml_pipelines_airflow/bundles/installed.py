"""The installed state of a package: its folder, its version, and whether its files match the installer's record."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib
import importlib.metadata
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

from airflow.dag_processing.bundles.base import get_bundle_storage_root_path

from ml_pipelines.errors import RequestError

__all__ = [
    "PROVIDER_PACKAGE",
    "FileStamps",
    "PackageFiles",
    "copy_is_unchanged",
    "file_stamps",
    "format_version",
    "package_files",
    "package_version",
]

PROVIDER_PACKAGE = "ml_pipelines_airflow"
PROVIDER_DISTRIBUTION = "airflow-provider-ml-pipelines"
MAX_VERSION_CHARACTERS = 100
DIGEST_CHARACTERS = 32  # 128 bits, too many to construct other files with the same digest


@dataclass(frozen=True)
class PackageFiles:
    """The files that a bundle copies.

    Attributes:
        package: import name.
        source: folder of the files.
        prefix: path of the folder in the copy, and in the distribution's RECORD.
    """

    package: str
    source: Path
    prefix: str

    def names(self) -> list[str]:
        """Return the paths of the files relative to the source, sorted and without bytecode."""
        return sorted(
            str(Path(folder, file).relative_to(self.source))
            for folder, file in _walk(self.source)
            if file and not file.endswith(".pyc")
        )


@dataclass(frozen=True)
class FileStamps:
    """The state of files in the file system. Equal stamps mean that no file has changed.

    Attributes:
        stamps: path, size, modification time and inode of every file and folder.
        changed: time of the last change in seconds since 1970.
    """

    stamps: tuple[tuple[str, int, int, int], ...]
    changed: float


def package_files(package: str, folder: str) -> PackageFiles:
    """Return the files of an installed package; of this provider, only those of its DAGs.

    Args:
        package: import name.
        folder: folder of the DAGs in the package.

    Raises:
        RequestError: the package is not installed, or does not contain the folder.
    """
    location = _location(package)
    dags = location / folder
    if package == PROVIDER_PACKAGE:
        # Only the wheel has the DAGs in the package; a checkout has them in the root of the repository.
        dags = dags if dags.is_dir() else location.parents[1] / folder
    if not dags.is_dir():
        raise RequestError(
            f"the package {package!r} has no folder {folder!r}",
            where=str(location),
            expected="a folder with DAG files",
            got=", ".join(sorted(path.name for path in location.iterdir() if path.is_dir())) or "no folder",
            fix="set `folder` in the bundle's kwargs, and check that the wheel contains it",
        )
    return (
        PackageFiles(package, dags, f"{package}/{folder}")
        if package == PROVIDER_PACKAGE
        else PackageFiles(package, location, package)
    )


def file_stamps(files: PackageFiles) -> FileStamps:
    """Return the stamps of the files, and of their parent folder.

    For packages other than this provider, the parent folder is `site-packages`. An installer adds metadata there.
    """
    paths = [Path(folder, name) for folder, name in _walk(files.source) if not name.endswith(".pyc")]
    stamps, changed = [], 0.0
    for path in sorted([*paths, files.source.parent]):
        stat = path.stat()
        stamps.append((str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino))
        changed = max(changed, stat.st_ctime)
    return FileStamps(tuple(stamps), changed)


def package_version(files: PackageFiles) -> tuple[str, bool]:
    """Return the version of the files, and whether they match the installer's record.

    The version consists of the distribution's version and a digest of the names and bytes of all files.
    """
    digests = {
        f"{files.prefix}/{name}": hashlib.sha256((files.source / name).read_bytes()).digest() for name in files.names()
    }
    distribution = _distribution(files.package)
    recorded = distribution is not None and _matches_record(distribution, files.prefix, digests)
    return format_version(distribution.version if distribution else "0", _digest(digests)), recorded


def copy_is_unchanged(copy: Path, version: str) -> bool:
    """Remove the bytecode of a copy, and return whether the digest of its files equals the digest in its version.

    Python writes bytecode beside the files of a copy, and runs the bytecode instead of the files. The digest does not
    cover bytecode.
    """
    for folder in copy.rglob("__pycache__"):
        shutil.rmtree(folder, ignore_errors=True)
    paths = sorted(path for path in copy.rglob("*") if path.is_symlink() or not path.is_dir())
    if any(path.is_symlink() for path in paths):
        return False
    digests = {path.relative_to(copy).as_posix(): hashlib.sha256(path.read_bytes()).digest() for path in paths}
    return version.endswith(f"-{_digest(digests)[:DIGEST_CHARACTERS]}")


def _digest(digests: Mapping[str, bytes]) -> str:
    """Return a digest of the names and the contents of files."""
    items = sorted(digests.items())
    return hashlib.sha256(b"".join(name.encode() + b"\0" + content for name, content in items)).hexdigest()


def format_version(version: str, digest: str) -> str:
    """Return a version that is a valid folder name in any file system; it ends with a hyphen and the digest."""
    return f"{re.sub(r'[^A-Za-z0-9.+!]', '_', version)[:MAX_VERSION_CHARACTERS]}-{digest[:DIGEST_CHARACTERS]}"


def _walk(root: Path) -> Iterator[tuple[str, str]]:
    """Yield `(folder, "")` for each folder, and `(folder, name)` for each file."""
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if name != "__pycache__"]
        yield folder, ""
        yield from ((folder, name) for name in files if Path(folder, name).exists())  # no broken links


def _location(package: str) -> Path:
    """Return the folder of an installed package, and not that of a bundle's copy on `sys.path`."""
    importlib.invalidate_caches()
    storage: Path = get_bundle_storage_root_path()  # type: ignore[no-untyped-call]  # no types here
    path = [entry for entry in sys.path if not Path(entry).is_relative_to(storage)]
    spec = PathFinder.find_spec(package, path) or find_spec(package)
    folders = [Path(location) for location in (spec and spec.submodule_search_locations) or ()]
    if not folders or folders[0].is_relative_to(storage):
        raise RequestError(
            f"the package {package!r} is not installed",
            where=sys.prefix,
            expected="the import name of a package",
            got="a module that is no package" if spec else "",
            fix=_suggestion(package),
        )
    return folders[0]


def _suggestion(package: str) -> str:
    near = get_close_matches(package, importlib.metadata.packages_distributions(), 1)
    return f"did you mean {near[0]!r}?" if near else "install it where Airflow runs"


def _distribution(package: str) -> importlib.metadata.Distribution | None:
    try:
        return importlib.metadata.distribution(PROVIDER_DISTRIBUTION if package == PROVIDER_PACKAGE else package)
    except importlib.metadata.PackageNotFoundError:
        # The distribution has another name than the package. This search reads the metadata of all distributions.
        names = importlib.metadata.packages_distributions().get(package)
        return importlib.metadata.distribution(names[0]) if names else None


def _matches_record(distribution: importlib.metadata.Distribution, prefix: str, digests: Mapping[str, bytes]) -> bool:
    """Return whether every recorded file is unchanged.

    An editable install records no files of the package, so the result is True: no installer writes these files.
    """
    record = distribution.read_text("RECORD")
    if record is None:
        return False  # installers write RECORD last
    rows = [(row[0], row[1]) for row in csv.reader(record.splitlines()) if row and row[0].startswith(f"{prefix}/")]
    return all(
        digest == f"sha256={_base64(digests.get(name, b''))}"
        for name, digest in rows
        if digest and not name.endswith(".pyc")
    )


def _base64(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
