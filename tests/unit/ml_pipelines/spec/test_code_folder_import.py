from __future__ import annotations

import importlib
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from ml_pipelines.spec.code_folder_import import FOLDER_VARIABLE, use_code_folder
from ml_pipelines.spec.code_packages import PACKAGES_VARIABLE
from ml_pipelines.spec.loader import load_spec

DECLARATION = """\
model: {name: churn, task: classification}
data: {file: {path: a.csv}, target: label, key: id}
"""


@pytest.fixture(autouse=True)
def two_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PACKAGES_VARIABLE, "shop_here")
    monkeypatch.setenv(FOLDER_VARIABLE, "")
    monkeypatch.delitem(sys.modules, "shop_here", raising=False)
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "shop_here.py").write_text(f"NUMBER = {number}\n")
        (folder / "shop_unlisted.py").write_text("raise SystemExit('imported')\n")
        (folder / "churn.yaml").write_text(DECLARATION)


def test_only_allowed_names_are_found(tmp_path: Path) -> None:
    use_code_folder(tmp_path / "1")
    assert find_spec("shop_here") is not None
    assert find_spec("shop_unlisted") is None
    assert str(tmp_path / "1") not in sys.path


def test_another_folder_replaces_the_modules_of_the_first(tmp_path: Path) -> None:
    use_code_folder(tmp_path / "1")
    assert importlib.import_module("shop_here").NUMBER == 1
    use_code_folder(tmp_path / "2")
    assert importlib.import_module("shop_here").NUMBER == 2


def test_loaded_declaration_enables_its_folder_and_imports_nothing(tmp_path: Path) -> None:
    first, second = (load_spec(tmp_path / name / "churn.yaml") for name in ("1", "2"))
    assert os.environ[FOLDER_VARIABLE] == str(tmp_path / "2")
    first.enable_code()
    assert os.environ[FOLDER_VARIABLE] == str(tmp_path / "1")
    assert "shop_here" not in sys.modules
    assert second.name == "churn"
