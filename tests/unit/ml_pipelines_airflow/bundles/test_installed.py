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
    """A package and its distribution, as an installer leaves them."""
    shutil.rmtree(site / "acme", ignore_errors=True)
    for old in site.glob("*.dist-info"):
        shutil.rmtree(old)
    record = []
    for file, text in files.items():
        (site / "acme" / file).parent.mkdir(parents=True, exist_ok=True)
        (site / "acme" / file).write_text(text)
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        record.append(f"acme/{file},sha256={digest},{len(text)}")
    told = site / f"{name.replace('-', '_')}-{version}.dist-info"
    told.mkdir()
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (told / "RECORD").write_text("\n".join([*record, f"{told.name}/RECORD,,", ""]))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (folder := tmp_path / "site").mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


def version(folder: str = "dags") -> str:
    return package_version(package_files("acme", folder))[0]


def test_a_version_is_that_of_the_distribution_and_a_digest_of_the_files(site: Path) -> None:
    install(site)
    assert re.fullmatch(r"1\.0-[0-9a-f]{12}", version())
    install(site, version="2.0")
    assert re.fullmatch(r"2\.0-[0-9a-f]{12}", version())


def test_the_same_files_are_the_same_version_wherever_and_whenever_they_are_installed(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(site)
    first = version()
    (site / "acme" / "__pycache__").mkdir()
    (site / "acme" / "__pycache__" / "features.cpython-311.pyc").write_bytes(b"compiled")
    os.utime(site / "acme" / "features.py", (0, 0))
    assert version() == first
    (elsewhere := tmp_path / "elsewhere").mkdir()
    install(elsewhere)
    monkeypatch.syspath_prepend(str(elsewhere))
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
def test_other_files_under_the_same_number_are_another_version(site: Path, changed: dict[str, str]) -> None:
    install(site)
    first = version()
    install(site, files=changed)
    assert version().startswith("1.0-")
    assert version() != first


@given(told=st.text(), digest=st.binary(min_size=32, max_size=32))
def test_a_version_is_the_name_of_a_folder(told: str, digest: bytes) -> None:
    name = format_version(told, digest.hex())
    assert re.fullmatch(r"[A-Za-z0-9.+!_]{0,100}-[0-9a-f]{12}", name)
    assert Path("below", name).parent == Path("below")
    assert not name.startswith(".unfinished-")


@given(told=st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){0,2}((a|b|rc)[0-9])?(\+[a-z0-9.]{1,9})?", fullmatch=True))
def test_a_version_is_shown_as_its_wheel_has_it(told: str) -> None:
    assert format_version(told, "0" * 64).rpartition("-")[0] == told


def test_the_distribution_may_have_another_name(site: Path) -> None:
    install(site, version="3.1", name="acme-models")
    assert version().startswith("3.1-")


def test_a_package_without_a_distribution_has_version_0(site: Path) -> None:
    install(site)
    shutil.rmtree(site / "acme-1.0.dist-info")
    name, recorded = package_version(package_files("acme", "dags"))
    assert name.startswith("0-")
    assert not recorded


def test_a_package_is_as_recorded_or_not(site: Path) -> None:
    def recorded() -> bool:
        return package_version(package_files("acme", "dags"))[1]

    install(site)
    assert recorded()
    (site / "acme" / "note.txt").write_text("not the installer's")
    assert recorded()
    (site / "acme" / "features.py").write_text("VERSION = 1.5\n")
    assert not recorded()
    install(site)
    (site / "acme" / "features.py").unlink()
    assert not recorded()
    install(site)
    (site / "acme-1.0.dist-info" / "RECORD").unlink()
    assert not recorded()


def test_an_editable_install_records_no_file_of_the_package(site: Path) -> None:
    install(site)
    (site / "acme-1.0.dist-info" / "RECORD").write_text("_acme.pth,sha256=x,1\n")
    assert package_version(package_files("acme", "dags"))[1]


def test_the_state_tells_of_every_change(site: Path) -> None:
    install(site)
    content = package_files("acme", "dags")
    states = [file_stamps(content)]
    assert file_stamps(content) == states[0]
    for change in (
        lambda: (site / "acme" / "features.py").write_text("VERSION = 22\n"),
        lambda: (site / "acme" / "more.py").touch(),
        lambda: (site / "acme" / "features.py").unlink(),
        lambda: (site / "acme-1.0.dist-info").rename(site / "acme-1.1.dist-info"),
    ):
        change()
        states.append(file_stamps(content))
    assert len({state.stamps for state in states}) == len(states)
    assert [state.changed for state in states] == sorted(state.changed for state in states)


def test_a_package_that_is_not_installed_may_be_a_slip(site: Path) -> None:
    install(site, name="acme-models")
    with pytest.raises(RequestError) as caught:
        package_files("acmee", "dags")
    assert caught.value.what == "the package 'acmee' is not installed"
    assert caught.value.fix == "did you mean 'acme'?"
    with pytest.raises(RequestError) as caught:
        package_files("quite_another_thing", "dags")
    assert caught.value.fix == "install it where Airflow runs"


def test_a_module_is_no_package(site: Path) -> None:
    (site / "lonely.py").touch()
    with pytest.raises(RequestError, match="'lonely' is not installed") as caught:
        package_files("lonely", "dags")
    assert caught.value.got == "a module that is no package"


def test_a_folder_that_is_not_there(site: Path) -> None:
    install(site)
    with pytest.raises(RequestError) as caught:
        package_files("acme", "pipelines")
    assert str(caught.value) == (
        "the package 'acme' has no folder 'pipelines'\n"
        f"  where: {site / 'acme'}\n"
        "  expected: a folder with DAG files\n"
        "  got: dags\n"
        "  fix: name the folder in the bundle's kwargs, and see that the wheel contains it"
    )


def test_a_bundle_s_copy_on_the_path_is_not_what_is_installed(
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


def test_ours_are_the_dags_only_and_those_of_the_checkout() -> None:
    content = package_files(PROVIDER_PACKAGE, "dags")
    assert (content.source, content.below) == (HERE / "dags", "ml_pipelines_airflow/dags")
    assert set(content.names()) == {path.name for path in (HERE / "dags").iterdir() if path.is_file()}
    name, recorded = package_version(content)
    assert name.startswith(f"{__version__}-")
    assert recorded
