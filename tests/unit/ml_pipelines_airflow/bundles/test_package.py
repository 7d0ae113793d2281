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

from ml_pipelines.errors import ArtifactMissing, RequestError, StoreUnavailable, TransientError
from ml_pipelines_airflow.bundles import package as tested
from ml_pipelines_airflow.bundles.package import PackageDagBundle

HERE = Path(__file__).resolve().parents[4]
STORAGE = "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH"


@pytest.fixture(autouse=True)
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(STORAGE, str(tmp_path / "bundles"))
    monkeypatch.setattr(base, "STALE_BUNDLE_TRACKING_FOLDER", tmp_path / "bundles" / "_tracking")
    monkeypatch.setattr(tested, "QUIET_SECONDS", 0.0)
    return tmp_path / "bundles"


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the package acme is installed, in version 1.0; what a bundle does to imports is undone."""
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    install(tmp_path / "site", "1.0")
    return tmp_path / "site"


def install(site: Path, version: str) -> None:
    (site / "acme" / "dags").mkdir(parents=True, exist_ok=True)
    for file in ("__init__.py", "features.py", "dags/churn.py"):
        (site / "acme" / file).write_text(f'VERSION = "{version}"\n')
    for old in site.glob("*.dist-info"):
        shutil.rmtree(old)
    (site / f"acme-{version}.dist-info").mkdir()
    (site / f"acme-{version}.dist-info" / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: acme\nVersion: {version}\n"
    )


def bundle(version: str | None = None, **kwargs: str) -> PackageDagBundle:
    return PackageDagBundle(name="team", version=version, **{"package": "acme", **kwargs})


def begun(version: str | None = None) -> PackageDagBundle:
    (made := bundle(version)).initialize()
    return made


def unfinished(storage: Path) -> list[Path]:
    return list((storage / "team" / "versions").glob(".unfinished-*"))


def test_what_is_served_is_a_copy(storage: Path, site: Path) -> None:
    served = begun()
    version = served.get_current_version().version
    assert version.startswith("1.0-")
    assert served.path == storage / "team" / "versions" / version / "acme" / "dags"
    assert (served.path / "churn.py").read_text() == 'VERSION = "1.0"\n'
    (site / "acme" / "dags" / "churn.py").write_text("changed")
    assert (served.path / "churn.py").read_text() == 'VERSION = "1.0"\n'
    assert unfinished(storage) == []


def test_another_version_is_another_copy(site: Path) -> None:
    served = begun()
    old, first = served.path, served.get_current_version()
    install(site, "2.0")
    assert (served.path, served.get_current_version()) == (old, first), "served until it is refreshed"
    served.refresh()
    assert served.get_current_version().version.startswith("2.0-")
    assert (served.path / "churn.py").read_text() == 'VERSION = "2.0"\n'
    assert (old / "churn.py").read_text() == 'VERSION = "1.0"\n'


def test_a_pinned_version_is_read_from_its_copy(site: Path) -> None:
    version = begun().get_current_version().version
    install(site, "2.0")
    assert (begun(version).path / "churn.py").read_text() == 'VERSION = "1.0"\n'
    assert begun(version).get_current_version().version == version
    shutil.rmtree(site)
    assert (begun(version).path / "churn.py").read_text() == 'VERSION = "1.0"\n'


def test_a_pinned_version_that_is_installed_is_copied(storage: Path) -> None:
    version = bundle().get_current_version().version
    assert not storage.exists()
    assert (begun(version).path / "churn.py").is_file()


@pytest.mark.parametrize(
    ("remove", "got"), [(False, "2.0-"), (True, "the package 'acme' is not installed")], ids=["another", "none"]
)
def test_a_pinned_version_that_is_not_to_be_had(storage: Path, site: Path, remove: bool, got: str) -> None:
    install(site, "2.0")
    if remove:
        shutil.rmtree(site)
    with pytest.raises(ArtifactMissing) as caught:
        begun("1.0-0123456789ab")
    error = caught.value
    assert error.what == (
        "version 1.0-0123456789ab of the DAG bundle 'team', which this run began with, is not to be had here"
    )
    assert error.where == str(storage / "team" / "versions")
    assert error.expected == "a copy in that folder, or the package 'acme' installed in that version"
    assert error.got.startswith(got)
    assert "[dag_processor] dag_bundle_storage_path" in error.fix


def test_a_pinned_bundle_is_not_refreshed() -> None:
    pinned = begun(begun().get_current_version().version)
    with pytest.raises(RequestError, match="pinned to a version can't be refreshed"):
        pinned.refresh()


def test_ours_is_the_default_and_shares_its_dags_only(storage: Path) -> None:
    ours = PackageDagBundle(name="ml-pipelines")
    finders = list(sys.meta_path)
    ours.initialize()
    assert {path.name for path in ours.path.iterdir()} == {
        path.name for path in (HERE / "dags").iterdir() if path.is_file()
    }
    assert [path.name for path in ours.path.parent.iterdir()] == ["dags"]
    assert sys.meta_path == finders


def test_a_view_url_is_what_is_configured() -> None:
    assert bundle().view_url_template() is None
    url = "https://example.com/acme/{version}"
    assert bundle(view_url_template=url).view_url_template() == url


@pytest.mark.parametrize(
    ("kwargs", "what", "told"),
    [
        ({"package": "acme.dags"}, "'acme.dags' is no top-level package", 'package="acme", folder="dags/dags"'),
        ({"package": "acme-models"}, "'acme-models' is no top-level package", "an import statement begins with"),
        ({"folder": "../secrets"}, "the folder '../secrets' is not below the package 'acme'", 'without ".."'),
        ({"folder": "/etc"}, "the folder '/etc' is not below the package 'acme'", "a relative path"),
        ({"folder": ""}, "the folder '' is not below the package 'acme'", "a relative path"),
    ],
)
def test_what_is_configured_wrongly(kwargs: dict[str, str], what: str, told: str) -> None:
    with pytest.raises(RequestError) as caught:
        bundle(**kwargs)
    assert caught.value.what == what
    assert caught.value.where == "kwargs of the DAG bundle in [dag_processor] dag_bundle_config_list"
    assert told in str(caught.value)


def test_many_processes_make_one_copy(storage: Path, site: Path, tmp_path: Path) -> None:
    for number in range(200):  # takes long enough for them to meet
        (site / "acme" / f"module_{number}.py").write_text(f"NUMBER = {number}\n")
    code = f"""
import os, sys, time
sys.path.insert(0, {str(site)!r})
from ml_pipelines_airflow.bundles import package as tested
tested.QUIET_SECONDS = 0.0
made = tested.PackageDagBundle(name="team", package="acme")
print("ready", flush=True)
sys.stdin.readline()
made.initialize()
print(made.get_current_version().version)
print(len(list(made.path.parent.rglob("*.py"))))
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
    told = {process.communicate(timeout=200)[0] for process in processes}
    (version,) = (path.name for path in (storage / "team" / "versions").iterdir())
    assert told == {f"{version}\n203\n"}


def test_a_process_that_dies_half_way_leaves_no_version(
    storage: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(tested.shutil, "copyfile", lambda *_: os._exit(7))
        begun()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    (left,) = unfinished(storage)
    assert (begun().path / "churn.py").is_file()
    assert left.is_dir(), "it might be another process's that is at work"
    old = time.time() - tested.LEFT_OVER_SECONDS - 1
    os.utime(left, (old, old))
    install(tmp_path / "site", "2.0")
    begun()
    assert unfinished(storage) == []


def test_storage_that_can_not_be_written(storage: Path) -> None:
    storage.parent.mkdir(exist_ok=True)
    storage.write_text("in the way")
    with pytest.raises(StoreUnavailable) as caught:
        begun()
    assert caught.value.what == "the package 'acme' can't be copied for its runs"
    assert caught.value.where == str(storage / "team" / "versions")
    assert "Not a directory" in caught.value.got
    assert "dag_bundle_storage_path" in caught.value.fix


def test_storage_that_can_not_be_written_serves_what_it_has(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = begun().get_current_version().version

    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "mkdir", refused)
    assert (begun(version).path / "churn.py").is_file()
    assert begun().get_current_version().version == version


def test_a_package_that_changes_while_it_is_copied_is_copied_again(
    storage: Path, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = bundle().get_current_version().version
    copied: list[Path] = []

    def upgraded_meanwhile(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes())
        copied.append(source)
        if len(copied) == 2:
            install(site, "2.0")

    monkeypatch.setattr(tested.shutil, "copyfile", upgraded_meanwhile)
    served = begun()
    assert served.get_current_version().version.startswith("2.0-")
    assert {path.read_text() for path in served.path.parent.rglob("*.py")} == {'VERSION = "2.0"\n'}
    assert not (storage / "team" / "versions" / first).exists()


def test_a_package_that_keeps_changing(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tested, "LONGEST_WAIT_SECONDS", 0.0)
    monkeypatch.setattr(tested.shutil, "copyfile", lambda *_: (site / "acme" / uuid4().hex).touch())
    with pytest.raises(TransientError) as caught:
        begun()
    assert str(caught.value) == f"the package 'acme' keeps changing\n  where: {site / 'acme'}"


def test_a_link_to_nowhere_is_not_copied(site: Path) -> None:
    (site / "acme" / "latest").symlink_to("nowhere")
    assert not list(begun().path.parent.glob("latest*"))


def test_a_package_that_is_being_installed_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tested, "QUIET_SECONDS", 3600.0)
    monkeypatch.setattr(tested, "LONGEST_WAIT_SECONDS", 0.0)
    with pytest.raises(TransientError) as caught:
        begun()
    assert caught.value.what == "the package 'acme' is being installed or edited"
    assert caught.value.got == "files that its RECORD does not tell of"


def test_it_is_taken_when_it_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tested, "QUIET_SECONDS", 1.0)
    assert begun().get_current_version().version.startswith("1.0-")


def test_files_are_read_again_only_if_something_changed(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[object] = []
    package_version = tested.package_version
    monkeypatch.setattr(tested, "package_version", lambda content: (read.append(content), package_version(content))[1])
    served = begun()
    for _ in range(3):
        served.refresh()
    assert len(read) == 1
    (site / "acme" / "features.py").write_text("VERSION = 1.5")
    served.refresh()
    assert len(read) == 2


def test_airflow_removes_copies_that_are_not_used(storage: Path, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__STALE_BUNDLE_CLEANUP_MIN_VERSIONS", "1")
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__STALE_BUNDLE_CLEANUP_AGE_THRESHOLD", "0")
    served = begun()
    old = served.path
    install(site, "2.0")
    served.refresh()
    base.BundleUsageTrackingManager()._remove_stale_bundle_versions_for_bundle("team")
    assert not old.exists()
    assert served.path.is_dir()
    assert not (storage / "team" / "versions" / old.parts[-3]).exists()


def test_a_copy_that_was_removed_is_made_again() -> None:
    served = begun()
    shutil.rmtree(served.versions_dir)
    served.refresh()
    assert (served.path / "churn.py").is_file()


def test_modules_come_from_the_copy_that_dags_are_read_from(site: Path) -> None:
    """As in the DAG processor: bundles are prepared in one process, and files are read in its forks."""
    first = begun().get_current_version().version
    install(site, "2.0")
    second = begun().get_current_version().version
    script = f"""
import os, sys
from ml_pipelines_airflow.bundles import package as tested

tested.QUIET_SECONDS = 0.0
before, paths = list(sys.path), []
for version in {[first, second, None]!r}:
    bundle = tested.PackageDagBundle(name="team", package="acme", version=version)
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
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["2.0 2.0 False", "1.0 1.0 True", "2.0 2.0 True", "2.0 2.0 True"]


def test_a_task_forgets_what_airflow_has_imported_before(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = begun().get_current_version().version
    install(site, "2.0")
    import acme.features

    assert acme.features.VERSION == "2.0"
    begun(version)
    assert "acme.features" in sys.modules, "only a task forgets"
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", object(), raising=False)
    pinned = begun(version)
    assert not [name for name in sys.modules if name.partition(".")[0] == "acme"]
    sys.path.append(str(pinned.path))
    import acme.features

    begun(version)
    assert sys.modules["acme.features"].VERSION == "1.0"
    for name in ("acme.features", "acme"):
        del sys.modules[name]
