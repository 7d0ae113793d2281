"""DAGs out of an installed package, versioned: a run ends on the version that it began with.

What is installed is copied, whole, to a folder of its own version below Airflow's bundle storage, and DAGs are read
from there. Installing another version makes another copy; a run that is pinned to the first goes on reading the first,
its DAG file and the modules of its package alike. Airflow removes copies that have not been used for long.
"""

from __future__ import annotations

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

from ml_pipelines.errors import ArtifactMissing, RequestError, StoreUnavailable, TransientError
from ml_pipelines_airflow.bundles.installed import (
    PROVIDER_PACKAGE,
    PackageFiles,
    file_stamps,
    package_files,
    package_version,
)

__all__ = ["PackageDagBundle"]

# A package that is not what its installer has recorded is still being installed, or was changed by hand.
QUIET_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 30.0
# A copy takes seconds; what is older was left by a process that died.
LEFT_OVER_SECONDS = 3600.0
UNFINISHED = ".unfinished-"


class PackageDagBundle(BaseDagBundle):
    """The DAGs in a folder of an installed package.

    A version is the distribution's version and a digest of the files, such as `1.4.0-3f2a91bc07de`: a wheel that was
    built again under the same number is another version.

    Args:
        package: import name, top level. Ours by default, of which only the DAGs are copied: this provider is loaded by
            Airflow itself and can't be there twice.
        folder: where the DAGs are, below the package.
        options: what every bundle takes: `name`, `version`, `refresh_interval` in seconds, `view_url_template`.

    Raises:
        RequestError: the package or the folder is named wrongly.
    """

    supports_versioning = True

    def __init__(self, *, package: str = PROVIDER_PACKAGE, folder: str = "dags", **options: Any) -> None:
        super().__init__(**options)
        self.package, self.folder = package, _checked(package, folder)
        self._served: str | None = self.version
        self._known: tuple[object, str] | None = None

    @property
    def path(self) -> Path:
        """The folder of the DAGs, in the copy."""
        version = self._served or self._installed()[1]
        return self.versions_dir / version / self.package / self.folder

    def initialize(self) -> None:
        """See that the copy is there, and that the package's modules are imported from it.

        Raises:
            RequestError: the package is not installed, or has no such folder.
            ArtifactMissing: a run is pinned to a version of which there is neither a copy nor an installation.
            StoreUnavailable: the copy can't be written.
        """
        if self.version is None:
            self._served = self._copied()
        elif not (self.versions_dir / self.version).is_dir():
            self._restore(self.version)
        if self.package != PROVIDER_PACKAGE:
            _import_from_copies(self.versions_dir, self.package)
        super().initialize()

    def refresh(self) -> None:
        """Serve what is installed now."""
        if self.version is not None:
            raise RequestError("a bundle that is pinned to a version can't be refreshed", where=str(self))
        self._served = self._copied()

    def get_current_version(self) -> BundleVersion:
        """The version that is served; before there is one, the version that is installed."""
        return BundleVersion(version=self._served or self._installed()[1])

    def _installed(self) -> tuple[PackageFiles, str]:
        """What is installed, and its version: read again only if a file, or what is installed beside it, changed."""
        content = package_files(self.package, self.folder)
        state = file_stamps(content)
        if self._known is None or self._known[0] != state:
            version, recorded = package_version(content)
            if not recorded and time.time() - state.changed < QUIET_SECONDS:
                raise TransientError(
                    f"the package {self.package!r} is being installed or edited",
                    where=str(content.source),
                    got="files that its RECORD does not tell of",
                    fix=f"nothing: it is taken as it is when it has not changed for {QUIET_SECONDS:.0f} s",
                )
            self._known = (state, version)
        return content, self._known[1]

    def _copied(self) -> str:
        """The version that is installed, of which there is a copy now."""
        end = time.monotonic() + LONGEST_WAIT_SECONDS
        while True:
            try:
                content, version = self._installed()
                if not (self.versions_dir / version).is_dir():
                    self._copy(content, version)
                return version
            except (TransientError, FileNotFoundError) as exc:
                if isinstance(exc, StoreUnavailable) or time.monotonic() > end:
                    raise
                time.sleep(0.5)

    def _restore(self, wanted: str) -> None:
        try:
            installed = self._copied()
        except RequestError as exc:
            installed = exc.what
        if installed != wanted:
            raise ArtifactMissing(
                f"version {wanted} of the DAG bundle {self.name!r}, which this run began with, is not to be had here",
                where=str(self.versions_dir),
                expected=f"a copy in that folder, or the package {self.package!r} installed in that version",
                got=installed,
                fix="let [dag_processor] dag_bundle_storage_path be a folder that all workers share, or install that "
                "version on this worker, or clear the run with its latest version",
            )

    def _copy(self, content: PackageFiles, version: str) -> None:
        """Copy to a folder aside, and give that its name when it is whole: who sees the name sees all."""
        try:
            with _unfinished(self.versions_dir) as aside:
                for name in content.names():
                    (target := aside / content.below / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(content.source / name, target)
                self._raise_if_changed(content)
                _name(aside, self.versions_dir / version)
        except OSError as exc:
            self._raise_if_changed(content)
            raise StoreUnavailable(
                f"the package {self.package!r} can't be copied for its runs",
                where=str(self.versions_dir),
                got=str(exc),
                fix="let [dag_processor] dag_bundle_storage_path be a folder with space that Airflow may write to",
            ) from exc
        # From here on Airflow knows of the copy, and removes it one day also if no task ever uses it.
        with BundleVersionLock(bundle_name=self.name, bundle_version=version):  # type: ignore[no-untyped-call]  # no types here
            pass

    def _raise_if_changed(self, content: PackageFiles) -> None:
        if self._known is None or file_stamps(content) != self._known[0]:
            raise TransientError(f"the package {self.package!r} keeps changing", where=str(content.source))


@contextmanager
def _unfinished(folder: Path) -> Iterator[Path]:
    """A new folder that is gone afterwards, unless it was given a name; and those of processes that died are gone."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"{UNFINISHED}*"):
        with suppress(FileNotFoundError):  # its own process, or another, has removed it
            if time.time() - left.stat().st_mtime > LEFT_OVER_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
    aside = folder / f"{UNFINISHED}{uuid4().hex}"
    aside.mkdir()
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _name(aside: Path, target: Path) -> None:
    try:
        aside.rename(target)
    except OSError:
        # Another process was faster, and its copy is the same.
        if not target.is_dir():
            raise


def _checked(package: str, folder: str) -> str:
    """The folder, as a clean relative path."""
    if not package.isidentifier():
        top, _, rest = package.partition(".")
        raise RequestError(
            f"{package!r} is no top-level package",
            where="kwargs of the DAG bundle in [dag_processor] dag_bundle_config_list",
            expected="the name that an import statement begins with",
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
class _Copies(MetaPathFinder):
    """Sees to it that a package's modules come from the copy that the process reads DAGs from.

    Airflow appends a bundle's path to `sys.path` in the process that parses a file or runs a task or callback, and only
    there. So the copy is put in front only when such a process imports the package: in the DAG processor itself, which
    prepares one version after the other, `sys.path` stays as it was.
    """

    versions: Path
    package: str

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        """Never finds anything itself; what comes next does, on the path that is right by then."""
        if name == self.package and (copy := self._copy()) and sys.path[0] != copy:
            sys.path.insert(0, copy)

    def _copy(self) -> str | None:
        for entry in reversed(sys.path):
            if self.versions in Path(entry).parents:
                return str(self.versions / Path(entry).relative_to(self.versions).parts[0])
        return None


def _import_from_copies(versions: Path, package: str) -> None:
    finder = _Copies(versions, package)
    if finder not in sys.meta_path:
        sys.meta_path.insert(0, finder)
    if _in_a_task():
        # Of a package that is also a plugin or a provider, Airflow has imported what the worker found when it began.
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None) or ""
            if name.partition(".")[0] == package and versions not in Path(file).parents:
                del sys.modules[name]


def _in_a_task() -> bool:
    """As Airflow itself tells it."""
    return hasattr(sys.modules.get("airflow.sdk.execution_time.task_runner"), "SUPERVISOR_COMMS")
