from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest
from airflow.dag_processing.bundles import base
from airflow.sdk.execution_time import task_runner

from ml_pipelines.errors import ArtifactCorrupt, ArtifactMissing, RequestError, StoreUnavailable, TransientError
from ml_pipelines_airflow.bundles import package as module
from ml_pipelines_airflow.bundles.package import PackageDagBundle

HERE = Path(__file__).resolve().parents[4]
STORAGE = "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH"


@pytest.fixture(autouse=True)
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(STORAGE, str(tmp_path / "bundles"))
    monkeypatch.setattr(base, "STALE_BUNDLE_TRACKING_FOLDER", tmp_path / "bundles" / "_tracking")
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.0)
    return tmp_path / "bundles"


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with version 1.0 of the package acme. The fixture restores the import system."""
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    install(tmp_path / "site", "1.0")
    return tmp_path / "site"


def install(site: Path, version: str) -> None:
    (site / "acme" / "dags").mkdir(parents=True, exist_ok=True)
    for file in ("__init__.py", "features.py", "dags/churn.py"):
        (site / "acme" / file).write_text(f'VERSION = "{version}"\n')
    for metadata in site.glob("*.dist-info"):
        shutil.rmtree(metadata)
    (site / f"acme-{version}.dist-info").mkdir()
    (site / f"acme-{version}.dist-info" / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: acme\nVersion: {version}\n"
    )


def bundle(version: str | None = None, **kwargs: str) -> PackageDagBundle:
    return PackageDagBundle(name="team", version=version, **{"package": "acme", **kwargs})


def initialized(version: str | None = None) -> PackageDagBundle:
    (initialized := bundle(version)).initialize()
    return initialized


def unfinished(storage: Path) -> list[Path]:
    return list((storage / "team" / "versions").glob(".unfinished-*"))


def test_bundle_serves_a_copy(storage: Path, site: Path) -> None:
    served = initialized()
    version = served.get_current_version().version
    assert version.startswith("1.0-")
    assert served.path == storage / "team" / "versions" / version / "acme" / "dags"
    assert (served.path / "churn.py").read_text() == 'VERSION = "1.0"\n'
    (site / "acme" / "dags" / "churn.py").write_text("changed")
    assert (served.path / "churn.py").read_text() == 'VERSION = "1.0"\n'
    assert unfinished(storage) == []


def test_refresh_serves_a_copy_of_the_installed_version(site: Path) -> None:
    served = initialized()
    old, first = served.path, served.get_current_version()
    install(site, "2.0")
    assert (served.path, served.get_current_version()) == (old, first), "served until it is refreshed"
    served.refresh()
    assert served.get_current_version().version.startswith("2.0-")
    assert (served.path / "churn.py").read_text() == 'VERSION = "2.0"\n'
    assert (old / "churn.py").read_text() == 'VERSION = "1.0"\n'


def test_pinned_bundle_serves_the_copy_of_its_version(site: Path) -> None:
    version = initialized().get_current_version().version
    install(site, "2.0")
    assert (initialized(version).path / "churn.py").read_text() == 'VERSION = "1.0"\n'
    assert initialized(version).get_current_version().version == version
    shutil.rmtree(site)
    assert (initialized(version).path / "churn.py").read_text() == 'VERSION = "1.0"\n'


CHANGES = ["change", "add", "shadow", "remove", "bytecode", "link"]


def change(served: PackageDagBundle, kind: str, site: Path) -> None:
    """Change a copy as a program could that writes to its volume."""
    file, root = served.path / "churn.py", served.path.parent.parent
    file.chmod(0o644)
    if kind == "change":
        file.write_text("EVIL = 1\n")
    elif kind == "add":
        (served.path / "evil.py").write_text("EVIL = 1\n")
    elif kind == "shadow":
        (root / "json.py").write_text("EVIL = 1\n")
    elif kind == "remove":
        file.unlink()
    elif kind == "bytecode":
        (served.path / "churn.pyc").write_bytes(b"evil")
    else:
        file.unlink()
        file.symlink_to(site / "acme" / "dags" / "churn.py")


@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.parametrize("pinned", [False, True])
def test_a_changed_copy_is_replaced_by_the_installed_files(site: Path, kind: str, pinned: bool) -> None:
    served = initialized()
    version = served.get_current_version().version
    root = served.path.parent.parent
    before = {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    change(served, kind, site)
    again = initialized(version) if pinned else initialized()
    assert {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    assert not any(path.is_symlink() for path in root.rglob("*"))
    assert again.path == served.path


@pytest.mark.parametrize("kind", CHANGES)
def test_a_changed_copy_of_another_version_is_refused(site: Path, kind: str) -> None:
    served = initialized()
    version = served.get_current_version().version
    change(served, kind, site)
    install(site, "2.0")
    with pytest.raises(ArtifactCorrupt) as caught:
        initialized(version)
    assert version in caught.value.what
    assert caught.value.where == str(served.path.parent.parent)


def test_refresh_replaces_a_changed_copy(site: Path) -> None:
    served = initialized()
    change(served, "change", site)
    served.refresh()
    assert (served.path / "churn.py").read_text() == 'VERSION = "1.0"\n'


def test_forged_bytecode_is_removed() -> None:
    served = initialized()
    cache = served.path / "__pycache__"
    cache.mkdir()
    (cache / f"churn.{sys.implementation.cache_tag}.pyc").write_bytes(b"evil")
    initialized(served.get_current_version().version)
    assert not cache.exists()


def test_the_files_of_a_copy_are_read_only() -> None:
    served = initialized()
    assert {path.stat().st_mode & 0o777 for path in served.path.iterdir()} == {0o444}


def test_pinned_bundle_copies_the_installed_version(storage: Path) -> None:
    version = bundle().get_current_version().version
    assert not storage.exists()
    assert (initialized(version).path / "churn.py").is_file()


@pytest.mark.parametrize(
    ("remove", "got"), [(False, "2.0-"), (True, "the package 'acme' is not installed")], ids=["another", "none"]
)
def test_pinned_bundle_without_its_version_raises(storage: Path, site: Path, remove: bool, got: str) -> None:
    install(site, "2.0")
    if remove:
        shutil.rmtree(site)
    with pytest.raises(ArtifactMissing) as caught:
        initialized("1.0-0123456789ab")
    error = caught.value
    assert "'team'" in error.what
    assert "1.0-0123456789ab" in error.what
    assert error.where == str(storage / "team" / "versions")
    assert error.got.startswith(got)
    assert "[dag_processor] dag_bundle_storage_path" in error.fix


def test_refresh_of_a_pinned_bundle_raises() -> None:
    pinned = initialized(initialized().get_current_version().version)
    with pytest.raises(RequestError, match="pinned to a version can't be refreshed"):
        pinned.refresh()


def test_default_package_is_the_provider_with_its_dags(storage: Path) -> None:
    provider = PackageDagBundle(name="ml-pipelines")
    finders = list(sys.meta_path)
    provider.initialize()
    assert {path.name for path in provider.path.iterdir()} == {
        path.name for path in (HERE / "dags").iterdir() if path.is_file()
    }
    assert [path.name for path in provider.path.parent.iterdir()] == ["dags"]
    assert sys.meta_path == finders


def test_view_url_is_the_configured_one() -> None:
    assert bundle().view_url_template() is None
    url = "https://example.com/acme/{version}"
    assert bundle(view_url_template=url).view_url_template() == url


@pytest.mark.parametrize(
    ("kwargs", "what", "detail"),
    [
        ({"package": "acme.dags"}, "'acme.dags' is not a top-level package", 'package="acme", folder="dags/dags"'),
        ({"package": "acme-models"}, "'acme-models' is not a top-level package", "an import statement"),
        ({"folder": "../secrets"}, "the folder '../secrets' is not below the package 'acme'", 'without ".."'),
        ({"folder": "/etc"}, "the folder '/etc' is not below the package 'acme'", "a relative path"),
        ({"folder": ""}, "the folder '' is not below the package 'acme'", "a relative path"),
    ],
)
def test_invalid_package_or_folder_raises(kwargs: dict[str, str], what: str, detail: str) -> None:
    with pytest.raises(RequestError) as caught:
        bundle(**kwargs)
    assert caught.value.what == what
    assert caught.value.where == "kwargs of the DAG bundle in [dag_processor] dag_bundle_config_list"
    assert detail in str(caught.value)


def test_concurrent_processes_create_one_copy(storage: Path, site: Path, tmp_path: Path) -> None:
    for number in range(200):  # so that the copies overlap
        (site / "acme" / f"module_{number}.py").write_text(f"NUMBER = {number}\n")
    code = f"""
import os, sys, time
sys.path.insert(0, {str(site)!r})
from ml_pipelines_airflow.bundles import package as module
module.QUIET_SECONDS = 0.0
bundle = module.PackageDagBundle(name="team", package="acme")
print("ready", flush=True)
sys.stdin.readline()
bundle.initialize()
print(bundle.get_current_version().version)
print(len(list(bundle.path.parent.rglob("*.py"))))
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = {process.communicate(timeout=200)[0] for process in processes}
    (version,) = (path.name for path in (storage / "team" / "versions").iterdir())
    assert outputs == {f"{version}\n203\n"}


def test_crash_during_a_copy_leaves_no_version(storage: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(module.shutil, "copyfile", lambda *_: os._exit(7))
        initialized()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    (folder,) = unfinished(storage)
    assert (initialized().path / "churn.py").is_file()
    assert folder.is_dir(), "another process may be working"
    old = time.time() - module.ABANDONED_SECONDS - 1
    os.utime(folder, (old, old))
    install(tmp_path / "site", "2.0")
    initialized()
    assert unfinished(storage) == []


def test_unwritable_storage_raises(storage: Path) -> None:
    storage.parent.mkdir(exist_ok=True)
    storage.write_text("in the way")
    with pytest.raises(StoreUnavailable) as caught:
        initialized()
    assert caught.value.where == str(storage / "team" / "versions")
    assert "Not a directory" in caught.value.got
    assert "dag_bundle_storage_path" in caught.value.fix


def test_read_only_storage_serves_existing_copies(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = initialized().get_current_version().version

    def failing_mkdir(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "mkdir", failing_mkdir)
    assert (initialized(version).path / "churn.py").is_file()
    assert initialized().get_current_version().version == version


def test_package_that_changes_during_a_copy_is_copied_again(
    storage: Path, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = bundle().get_current_version().version
    copied: list[Path] = []

    def copy_and_upgrade(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes())
        copied.append(source)
        if len(copied) == 2:
            install(site, "2.0")

    monkeypatch.setattr(module.shutil, "copyfile", copy_and_upgrade)
    served = initialized()
    assert served.get_current_version().version.startswith("2.0-")
    assert {path.read_text() for path in served.path.parent.rglob("*.py")} == {'VERSION = "2.0"\n'}
    assert not (storage / "team" / "versions" / first).exists()


def test_package_that_keeps_changing_raises(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAIT_SECONDS", 0.0)
    monkeypatch.setattr(module.shutil, "copyfile", lambda *_: (site / "acme" / uuid4().hex).touch())
    with pytest.raises(TransientError) as caught:
        initialized()
    assert str(caught.value) == f"the package 'acme' keeps changing\n  where: {site / 'acme'}"


def test_broken_link_is_not_copied(site: Path) -> None:
    (site / "acme" / "latest").symlink_to("nowhere")
    assert not list(initialized().path.parent.glob("latest*"))


def test_package_that_is_being_installed_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIET_SECONDS", 3600.0)
    monkeypatch.setattr(module, "MAX_WAIT_SECONDS", 0.0)
    with pytest.raises(TransientError) as caught:
        initialized()
    assert caught.value.what == "the package 'acme' is being installed or edited"


def test_package_without_recent_changes_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIET_SECONDS", 1.0)
    assert initialized().get_current_version().version.startswith("1.0-")


def test_files_are_read_again_only_after_a_change(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[object] = []
    package_version = module.package_version
    monkeypatch.setattr(module, "package_version", lambda files: (read.append(files), package_version(files))[1])
    served = initialized()
    for _ in range(3):
        served.refresh()
    assert len(read) == 1
    (site / "acme" / "features.py").write_text("VERSION = 1.5")
    served.refresh()
    assert len(read) == 2


def test_airflow_removes_unused_copies(storage: Path, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__STALE_BUNDLE_CLEANUP_MIN_VERSIONS", "1")
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__STALE_BUNDLE_CLEANUP_AGE_THRESHOLD", "0")
    served = initialized()
    old = served.path
    install(site, "2.0")
    served.refresh()
    base.BundleUsageTrackingManager()._remove_stale_bundle_versions_for_bundle("team")
    assert not old.exists()
    assert served.path.is_dir()
    assert not (storage / "team" / "versions" / old.parts[-3]).exists()


def test_removed_copy_is_created_again() -> None:
    served = initialized()
    shutil.rmtree(served.versions_dir)
    served.refresh()
    assert (served.path / "churn.py").is_file()


def test_modules_are_imported_from_the_copy_of_the_dags(site: Path) -> None:
    # The DAG processor prepares bundles in one process and parses files in its forks.
    first = initialized().get_current_version().version
    install(site, "2.0")
    second = initialized().get_current_version().version
    script = f"""
import os, sys
from ml_pipelines_airflow.bundles import package as module

module.QUIET_SECONDS = 0.0
before, paths = list(sys.path), []
for version in {[first, second, None]!r}:
    bundle = module.PackageDagBundle(name="team", package="acme", version=version)
    bundle.initialize()
    paths.append(str(bundle.path))
assert sys.path == before
assert "acme" not in sys.modules
for path in (None, *paths):
    if os.fork():
        os.wait()
        continue
    sys.path += [path] if path else []
    import acme, acme.features
    print(acme.VERSION, acme.features.VERSION, "bundles" in acme.__file__, flush=True)
    os._exit(0)
"""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    process = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert process.stdout.splitlines() == ["2.0 2.0 False", "1.0 1.0 True", "2.0 2.0 True", "2.0 2.0 True"]


def test_task_process_imports_the_pinned_version(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = initialized().get_current_version().version
    install(site, "2.0")
    import acme.features

    assert acme.features.VERSION == "2.0"
    initialized(version)
    assert "acme.features" in sys.modules, "only a task process removes modules"
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", object(), raising=False)
    pinned = initialized(version)
    assert not [name for name in sys.modules if name.partition(".")[0] == "acme"]
    sys.path.append(str(pinned.path))
    import acme.features

    initialized(version)
    assert sys.modules["acme.features"].VERSION == "1.0"
    for name in ("acme.features", "acme"):
        del sys.modules[name]
