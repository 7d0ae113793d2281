"""A versioned DAG bundle from an installed package: a run ends with the version that it started with.

The bundle copies the installed files into a folder of their version below Airflow's bundle storage, and Airflow reads
the DAGs from the copy. The digest of a copy is verified each time that it is opened. Another installed version gets
another copy. A run that is pinned to the first version continues with the first copy, for its DAG file and for the
modules of the package. Airflow removes copies that are not used.
"""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any
from uuid import uuid4

from airflow.dag_processing.bundles.base import BaseDagBundle, BundleVersion, BundleVersionLock

from ml_pipelines.errors import ArtifactCorrupt, ArtifactMissing, RequestError, StoreUnavailable, TransientError
from ml_pipelines_airflow.bundles.installed import (
    PROVIDER_PACKAGE,
    PackageFiles,
    copy_is_unchanged,
    file_stamps,
    package_files,
    package_version,
)

__all__ = ["PackageDagBundle"]

log = logging.getLogger(__name__)

QUIET_SECONDS = 5.0
"""Time without changes after which files that differ from the installer's record are served."""
MAX_WAIT_SECONDS = 30.0
"""Maximum wait for an installation to end."""
ABANDONED_SECONDS = 3600.0
"""Age of an unfinished copy after which its process has died; a copy takes seconds."""
READ_ONLY = 0o444
"""Mode of the files of a copy. The folders stay writable, because Airflow removes copies that are not used."""
UNFINISHED = ".unfinished-"
"""Prefix of unfinished copies."""


class PackageDagBundle(BaseDagBundle):
    """The DAGs in a folder of an installed package.

    A version consists of the distribution's version and a digest of the files, such as
    `1.4.0-3f2a91bc07de44f08c1d5b6e9a72f3d1`. A wheel that was built again with the same number is another version.

    Args:
        package: import name of the top-level package. By default this provider, of which only the DAGs are copied:
            Airflow itself imports the provider, which therefore can't have two versions in a process.
        folder: folder of the DAGs in the package.
        options: arguments of every bundle: `name`, `version`, `refresh_interval` in seconds, `view_url_template`.

    Raises:
        RequestError: the package or the folder has an invalid name.
    """

    supports_versioning = True

    def __init__(self, *, package: str = PROVIDER_PACKAGE, folder: str = "dags", **options: Any) -> None:
        super().__init__(**options)
        self.package, self.folder = package, _relative_folder(package, folder)
        self._served: str | None = self.version
        self._last: tuple[object, str] | None = None

    @property
    def path(self) -> Path:
        """The folder of the DAGs in the copy."""
        version = self._served or self._installed()[1]
        return self.versions_dir / version / self.package / self.folder

    def initialize(self) -> None:
        """Create the copy if it does not exist, and import the modules of the package from it.

        Raises:
            RequestError: the package is not installed, or does not contain the folder.
            ArtifactMissing: a run is pinned to a version that has no copy and is not installed.
            ArtifactCorrupt: the copy of that version was changed, and the version is not installed.
            StoreUnavailable: the copy can't be written.
        """
        if self.version is None:
            self._served = self._ensure_copy()
        elif not self._has_copy(self.version):
            self._restore(self.version)
        if self.package != PROVIDER_PACKAGE:
            _import_from_copies(self.versions_dir, self.package)
        super().initialize()

    def refresh(self) -> None:
        """Serve the installed version.

        Raises:
            RequestError: the bundle is pinned to a version.
        """
        if self.version is not None:
            raise RequestError("a bundle that is pinned to a version can't be refreshed", where=str(self))
        self._served = self._ensure_copy()

    def get_current_version(self) -> BundleVersion:
        """Return the served version; before the first copy, the installed version."""
        return BundleVersion(version=self._served or self._installed()[1])

    def _installed(self) -> tuple[PackageFiles, str]:
        """Return the installed files and their version, which is read again only after a change."""
        files = package_files(self.package, self.folder)
        stamps = file_stamps(files)
        if self._last is None or self._last[0] != stamps:
            version, recorded = package_version(files)
            if not recorded and time.time() - stamps.changed < QUIET_SECONDS:
                raise TransientError(
                    f"the package {self.package!r} is being installed or edited",
                    where=str(files.source),
                    got="files that differ from the installer's RECORD",
                    fix=f"none needed: the files are served after {QUIET_SECONDS:.0f} s without a change",
                )
            self._last = (stamps, version)
        return files, self._last[1]

    def _ensure_copy(self) -> str:
        """Copy the installed version if it has no copy, and return the version."""
        end = time.monotonic() + MAX_WAIT_SECONDS
        while True:
            try:
                files, version = self._installed()
                if not self._has_copy(version):
                    self._discard(version)
                    self._copy(files, version)
                return version
            except (TransientError, FileNotFoundError) as exc:
                if isinstance(exc, StoreUnavailable) or time.monotonic() > end:
                    raise
                time.sleep(0.5)

    def _has_copy(self, version: str) -> bool:
        copy = self.versions_dir / version
        return copy.is_dir() and copy_is_unchanged(copy, version)

    def _discard(self, version: str) -> None:
        """Remove a changed copy. Its name is free at once, since it is renamed first."""
        folder = self.versions_dir / f"{UNFINISHED}{uuid4().hex}"
        # There is none, another process has removed it, or the storage is no folder, which the copy reports.
        with suppress(FileNotFoundError, NotADirectoryError):
            (self.versions_dir / version).rename(folder)
            log.warning("the copy of version %s of the DAG bundle %s was changed and is replaced", version, self.name)
            shutil.rmtree(folder, ignore_errors=True)

    def _restore(self, version: str) -> None:
        """Create the copy of a pinned version from the installed package."""
        try:
            installed = self._ensure_copy()
        except RequestError as exc:
            installed = exc.what
        if installed == version:
            return
        if (self.versions_dir / version).is_dir():
            raise ArtifactCorrupt(
                f"the copy of version {version} of the DAG bundle {self.name!r} was changed",
                where=str(self.versions_dir / version),
                expected="the files whose digest the version names",
                got="other files",
                fix="find out which process writes to that folder, delete it, and install that version on this worker",
            )
        raise ArtifactMissing(
            f"the DAG bundle {self.name!r} does not have version {version}, which this run is pinned to",
            where=str(self.versions_dir),
            expected=f"a copy in that folder, or the package {self.package!r} installed in that version",
            got=installed,
            fix="set [dag_processor] dag_bundle_storage_path to a folder that all workers share, or install that "
            "version on this worker, or clear the run with its latest version",
        )

    def _copy(self, files: PackageFiles, version: str) -> None:
        """Copy to an unfinished folder and rename it at the end, so that a version is always complete."""
        try:
            with _unfinished_folder(self.versions_dir) as folder:
                for name in files.names():
                    (target := folder / files.prefix / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(files.source / name, target)
                    target.chmod(READ_ONLY)
                self._raise_if_changed(files)
                _rename(folder, self.versions_dir / version)
        except OSError as exc:
            self._raise_if_changed(files)
            raise StoreUnavailable(
                f"the package {self.package!r} can't be copied to the bundle storage",
                where=str(self.versions_dir),
                got=str(exc),
                fix="set [dag_processor] dag_bundle_storage_path to a writable folder with free space",
            ) from exc
        # The lock registers the copy with Airflow, which then removes it even if no task ever uses it.
        with BundleVersionLock(bundle_name=self.name, bundle_version=version):  # type: ignore[no-untyped-call]  # no types here
            pass

    def _raise_if_changed(self, files: PackageFiles) -> None:
        if self._last is None or file_stamps(files) != self._last[0]:
            raise TransientError(f"the package {self.package!r} keeps changing", where=str(files.source))


@contextmanager
def _unfinished_folder(versions: Path) -> Iterator[Path]:
    """Create a folder, remove it at the end unless it was renamed, and remove the folders of processes that died."""
    versions.mkdir(parents=True, exist_ok=True)
    for folder in versions.glob(f"{UNFINISHED}*"):
        with suppress(FileNotFoundError):  # another process has removed it
            if time.time() - folder.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
    folder = versions / f"{UNFINISHED}{uuid4().hex}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _rename(folder: Path, target: Path) -> None:
    try:
        folder.rename(target)
    except OSError:
        # Another process has created an equal copy.
        if not target.is_dir():
            raise


def _relative_folder(package: str, folder: str) -> str:
    """Return the folder as a normalised relative path."""
    if not package.isidentifier():
        top, _, rest = package.partition(".")
        raise RequestError(
            f"{package!r} is not a top-level package",
            where="kwargs of the DAG bundle in [dag_processor] dag_bundle_config_list",
            expected="the first name of an import statement",
            fix=f'package="{top}", folder="{rest.replace(".", "/")}/{folder}"' if rest else "",
        )
    path = PurePosixPath(folder)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise RequestError(
            f"the folder {folder!r} is not below the package {package!r}",
            where="kwargs of the DAG bundle in [dag_processor] dag_bundle_config_list",
            expected='a relative path such as "dags", without ".."',
        )
    return str(path)


@dataclass(frozen=True)
class _CopyFinder(MetaPathFinder):
    """Make imports of a package use the copy that the process reads its DAGs from.

    Airflow appends the path of a bundle to `sys.path` only in the process that parses a file or runs a task or a
    callback. This finder therefore changes `sys.path` when such a process imports the package. In the DAG processor
    itself, which prepares one version after the other, `sys.path` stays unchanged.
    """

    versions: Path
    package: str

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        """Put the copy first on `sys.path`, and leave the import to the next finder."""
        if name == self.package and (copy := self._copy()) and sys.path[0] != copy:
            sys.path.insert(0, copy)

    def _copy(self) -> str | None:
        for entry in reversed(sys.path):
            if self.versions in Path(entry).parents:
                return str(self.versions / Path(entry).relative_to(self.versions).parts[0])
        return None


def _import_from_copies(versions: Path, package: str) -> None:
    finder = _CopyFinder(versions, package)
    if finder not in sys.meta_path:
        sys.meta_path.insert(0, finder)
    if _is_task_process():
        # If the package is also a plugin or a provider, the worker has imported its installed version at the start.
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None) or ""
            if name.partition(".")[0] == package and versions not in Path(file).parents:
                del sys.modules[name]


def _is_task_process() -> bool:
    """Return whether Airflow's task runner has a supervisor, as in Airflow's own code."""
    return hasattr(sys.modules.get("airflow.sdk.execution_time.task_runner"), "SUPERVISOR_COMMS")
