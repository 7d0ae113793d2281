from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_pipelines import __version__
from ml_pipelines.errors import RequestError
from ml_pipelines_airflow.bundles.installed import (
    PROVIDER_PACKAGE,
    file_stamps,
    format_version,
    package_files,
    package_version,
)

HERE = Path(__file__).resolve().parents[4]
FILES = {"__init__.py": "", "features.py": "VERSION = 1\n", "dags/churn.py": "# an airflow dag\n"}


def install(site: Path, *, version: str = "1.0", name: str = "acme", files: dict[str, str] = FILES) -> None:
    """Write a package and its distribution as an installer does."""
    shutil.rmtree(site / "acme", ignore_errors=True)
    for metadata in site.glob("*.dist-info"):
        shutil.rmtree(metadata)
    record = []
    for file, text in files.items():
        (site / "acme" / file).parent.mkdir(parents=True, exist_ok=True)
        (site / "acme" / file).write_text(text)
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        record.append(f"acme/{file},sha256={digest},{len(text)}")
    metadata = site / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (metadata / "RECORD").write_text("\n".join([*record, f"{metadata.name}/RECORD,,", ""]))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (folder := tmp_path / "site").mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


def version(folder: str = "dags") -> str:
    return package_version(package_files("acme", folder))[0]


def test_version_has_the_version_of_the_distribution_and_a_digest(site: Path) -> None:
    install(site)
    assert re.fullmatch(r"1\.0-[0-9a-f]{32}", version())
    install(site, version="2.0")
    assert re.fullmatch(r"2\.0-[0-9a-f]{32}", version())


def test_equal_files_have_equal_versions(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site)
    first = version()
    (site / "acme" / "__pycache__").mkdir()
    (site / "acme" / "__pycache__" / "features.cpython-311.pyc").write_bytes(b"compiled")
    os.utime(site / "acme" / "features.py", (0, 0))
    assert version() == first
    (other := tmp_path / "other").mkdir()
    install(other)
    monkeypatch.syspath_prepend(str(other))
    assert version() == first


@pytest.mark.parametrize(
    "changed",
    [
        FILES | {"features.py": "VERSION = 2\n"},
        FILES | {"more.py": ""},
        {"__init__.py": "", "dags/churn.py": "# an airflow dag\n", "feature.py": "VERSION = 1\n"},
    ],
    ids=["bytes", "another file", "a name"],
)
def test_changed_files_have_another_version(site: Path, changed: dict[str, str]) -> None:
    install(site)
    first = version()
    install(site, files=changed)
    assert version().startswith("1.0-")
    assert version() != first


@given(number=st.text(), digest=st.binary(min_size=32, max_size=32))
def test_format_version_is_a_folder_name(number: str, digest: bytes) -> None:
    name = format_version(number, digest.hex())
    assert re.fullmatch(r"[A-Za-z0-9.+!_]{0,100}-[0-9a-f]{32}", name)
    assert Path("folder", name).parent == Path("folder")
    assert not name.startswith(".unfinished-")


@given(number=st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){0,2}((a|b|rc)[0-9])?(\+[a-z0-9.]{1,9})?", fullmatch=True))
def test_format_version_keeps_valid_versions(number: str) -> None:
    assert format_version(number, "0" * 64).rpartition("-")[0] == number


def test_distribution_may_have_another_name(site: Path) -> None:
    install(site, version="3.1", name="acme-models")
    assert version().startswith("3.1-")


def test_package_without_a_distribution_has_version_0(site: Path) -> None:
    install(site)
    shutil.rmtree(site / "acme-1.0.dist-info")
    name, recorded = package_version(package_files("acme", "dags"))
    assert name.startswith("0-")
    assert not recorded


def test_package_version_compares_with_the_record(site: Path) -> None:
    def recorded() -> bool:
        return package_version(package_files("acme", "dags"))[1]

    install(site)
    assert recorded()
    (site / "acme" / "note.txt").write_text("of another tool")
    assert recorded()
    (site / "acme" / "features.py").write_text("VERSION = 1.5\n")
    assert not recorded()
    install(site)
    (site / "acme" / "features.py").unlink()
    assert not recorded()
    install(site)
    (site / "acme-1.0.dist-info" / "RECORD").unlink()
    assert not recorded()


def test_editable_install_matches_its_record(site: Path) -> None:
    install(site)
    (site / "acme-1.0.dist-info" / "RECORD").write_text("_acme.pth,sha256=x,1\n")
    assert package_version(package_files("acme", "dags"))[1]


def test_file_stamps_differ_after_every_change(site: Path) -> None:
    install(site)
    files = package_files("acme", "dags")
    stamps = [file_stamps(files)]
    assert file_stamps(files) == stamps[0]
    for change in (
        lambda: (site / "acme" / "features.py").write_text("VERSION = 22\n"),
        lambda: (site / "acme" / "more.py").touch(),
        lambda: (site / "acme" / "features.py").unlink(),
        lambda: (site / "acme-1.0.dist-info").rename(site / "acme-1.1.dist-info"),
    ):
        change()
        stamps.append(file_stamps(files))
    assert len({stamp.stamps for stamp in stamps}) == len(stamps)
    assert [stamp.changed for stamp in stamps] == sorted(stamp.changed for stamp in stamps)


def test_missing_package_raises_with_a_suggestion(site: Path) -> None:
    install(site, name="acme-models")
    with pytest.raises(RequestError) as caught:
        package_files("acmee", "dags")
    assert caught.value.what == "the package 'acmee' is not installed"
    assert caught.value.fix == "did you mean 'acme'?"
    with pytest.raises(RequestError) as caught:
        package_files("quite_another_thing", "dags")
    assert caught.value.fix == "install it where Airflow runs"


def test_module_that_is_no_package_raises(site: Path) -> None:
    (site / "lonely.py").touch()
    with pytest.raises(RequestError, match="'lonely' is not installed") as caught:
        package_files("lonely", "dags")
    assert caught.value.got == "a module that is no package"


def test_missing_folder_raises(site: Path) -> None:
    install(site)
    with pytest.raises(RequestError) as caught:
        package_files("acme", "pipelines")
    assert caught.value.what == "the package 'acme' has no folder 'pipelines'"
    assert (caught.value.where, caught.value.got) == (str(site / "acme"), "dags")


def test_copy_of_a_bundle_is_not_an_installed_package(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(tmp_path / "bundles"))
    (copy := tmp_path / "bundles" / "acme" / "versions" / "0.9").mkdir(parents=True)
    install(copy, version="0.9")
    monkeypatch.syspath_prepend(str(copy))
    with pytest.raises(RequestError, match="'acme' is not installed"):
        package_files("acme", "dags")
    install(site)
    assert package_files("acme", "dags").source == site / "acme"


def test_files_of_the_provider_are_its_dags() -> None:
    files = package_files(PROVIDER_PACKAGE, "dags")
    assert (files.source, files.prefix) == (HERE / "dags", "ml_pipelines_airflow/dags")
    assert set(files.names()) == {path.name for path in (HERE / "dags").iterdir() if path.is_file()}
    name, recorded = package_version(files)
    assert name.startswith(f"{__version__}-")
    assert recorded
