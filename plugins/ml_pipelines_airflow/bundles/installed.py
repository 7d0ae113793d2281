"""A package as it is installed now: where it is, in which version, and whether it is all there."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib
import importlib.metadata
import os
import re
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
    "file_stamps",
    "format_version",
    "package_files",
    "package_version",
]

PROVIDER_PACKAGE = "ml_pipelines_airflow"
PROVIDER_DISTRIBUTION = "airflow-provider-ml-pipelines"
LONGEST_VERSION = 100
DIGEST_CHARACTERS = 12


@dataclass(frozen=True)
class PackageFiles:
    """What a bundle copies.

    Attributes:
        package: import name.
        source: the folder that is copied.
        below: what the copy's folder is called, from the copy's root; as in the distribution's RECORD.
    """

    package: str
    source: Path
    below: str

    def names(self) -> list[str]:
        """The files, relative to the source, in order; without what Python has compiled."""
        return sorted(
            str(Path(folder, file).relative_to(self.source))
            for folder, file in _walk(self.source)
            if file and not file.endswith(".pyc")
        )


@dataclass(frozen=True)
class FileStamps:
    """What tells, without reading it, whether content has changed.

    Attributes:
        stamps: of every file and folder.
        changed: when one of them changed last, in seconds since 1970.
    """

    stamps: tuple[tuple[str, int, int, int], ...]
    changed: float


def package_files(package: str, folder: str) -> PackageFiles:
    """Find a package's content.

    Raises:
        RequestError: the package is not installed, or the folder is not in it.
    """
    location = _location(package)
    found = location / folder
    if package == PROVIDER_PACKAGE:
        # In a checkout the DAGs are not in the package; the wheel puts them there.
        found = found if found.is_dir() else location.parents[1] / folder
    if not found.is_dir():
        raise RequestError(
            f"the package {package!r} has no folder {folder!r}",
            where=str(location),
            expected="a folder with DAG files",
            got=", ".join(sorted(each.name for each in location.iterdir() if each.is_dir())) or "no folder at all",
            fix="name the folder in the bundle's kwargs, and see that the wheel contains it",
        )
    return (
        PackageFiles(package, found, f"{package}/{folder}")
        if package == PROVIDER_PACKAGE
        else PackageFiles(package, location, package)
    )


def file_stamps(content: PackageFiles) -> FileStamps:
    """What the file system says of content, and of the folder beside it that tells of distributions."""
    found = [Path(folder, file) for folder, file in _walk(content.source) if not file.endswith(".pyc")]
    stamps, changed = [], 0.0
    for path in sorted([*found, content.source.parent]):
        stat = path.stat()
        stamps.append((str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino))
        changed = max(changed, stat.st_ctime)
    return FileStamps(tuple(stamps), changed)


def package_version(content: PackageFiles) -> tuple[str, bool]:
    """The version's name, and whether the files are what the installer has recorded.

    The name is that of a folder, of the distribution's version and a digest of the files' names and bytes.
    """
    digests = {
        f"{content.below}/{name}": hashlib.sha256((content.source / name).read_bytes()).digest()
        for name in content.names()
    }
    whole = hashlib.sha256(b"".join(name.encode() + b"\0" + digest for name, digest in digests.items()))
    found = _distribution(content.package)
    recorded = found is not None and _recorded(found, content.below, digests)
    return format_version(found.version if found else "0", whole.hexdigest()), recorded


def format_version(version: str, digest: str) -> str:
    """A name that any file system takes, and a person understands."""
    return f"{re.sub(r'[^A-Za-z0-9.+!]', '_', version)[:LONGEST_VERSION]}-{digest[:DIGEST_CHARACTERS]}"


def _walk(root: Path) -> Iterator[tuple[str, str]]:
    """Every folder, with an empty name, and every file."""
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if name != "__pycache__"]
        yield folder, ""
        yield from ((folder, name) for name in files if Path(folder, name).exists())  # unlike a link to nowhere


def _location(package: str) -> Path:
    """The folder of an installed package; a bundle's copies, which may be on `sys.path` too, do not count."""
    importlib.invalidate_caches()
    storage: Path = get_bundle_storage_root_path()  # type: ignore[no-untyped-call]  # no types here
    places = [entry for entry in sys.path if not Path(entry).is_relative_to(storage)]
    spec = PathFinder.find_spec(package, places) or find_spec(package)
    found = [Path(place) for place in (spec and spec.submodule_search_locations) or ()]
    if not found or found[0].is_relative_to(storage):
        raise RequestError(
            f"the package {package!r} is not installed",
            where=sys.prefix,
            expected="a package, as an import statement names it",
            got="a module that is no package" if spec else "",
            fix=_did_you_mean(package),
        )
    return found[0]


def _did_you_mean(package: str) -> str:
    near = get_close_matches(package, importlib.metadata.packages_distributions(), 1)
    return f"did you mean {near[0]!r}?" if near else "install it where Airflow runs"


def _distribution(package: str) -> importlib.metadata.Distribution | None:
    try:
        return importlib.metadata.distribution(PROVIDER_DISTRIBUTION if package == PROVIDER_PACKAGE else package)
    except importlib.metadata.PackageNotFoundError:
        # A distribution of another name; to find it, those of all others are read too.
        names = importlib.metadata.packages_distributions().get(package)
        return importlib.metadata.distribution(names[0]) if names else None


def _recorded(found: importlib.metadata.Distribution, below: str, digests: Mapping[str, bytes]) -> bool:
    """Whether every file that the installer has put there is there; of an editable install there is none."""
    record = found.read_text("RECORD")
    if record is None:
        return False  # it comes last
    listed = [(row[0], row[1]) for row in csv.reader(record.splitlines()) if row and row[0].startswith(f"{below}/")]
    return all(
        hashed == f"sha256={_base64(digests.get(name, b''))}"
        for name, hashed in listed
        if hashed and not name.endswith(".pyc")
    )


def _base64(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
