"""The code that a declaration names: which is allowed, how it is loaded, and what its digests show."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ml_pipelines.errors import UserCodeError
from ml_pipelines.pipeline.user_code import changed_sources, load_code, short_digests, source_digests
from ml_pipelines.spec.code_folder_import import FOLDER_VARIABLE, use_code_folder
from ml_pipelines.spec.code_packages import PACKAGES_VARIABLE

MAIN = """\
from shop_helpers import half

LIMIT = 10


def ratio(frame):
    return half(frame) * 2


def other(frame):
    return frame
"""
HELPERS = "def half(value):\n    return value / 2\n"

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a module beside a declaration; the deployment allows two names."""
    monkeypatch.setenv(PACKAGES_VARIABLE, "shop_code,shop_helpers")
    monkeypatch.setenv(FOLDER_VARIABLE, "")
    for name in ("shop_code", "shop_helpers"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    def write_module(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(text)

    write_module("shop_code", MAIN)
    write_module("shop_helpers", HELPERS)
    use_code_folder(tmp_path)
    return write_module


def test_module_beside_the_declaration_is_loaded(write: Write) -> None:
    assert load_code("shop_code:ratio", where="features.transform")(3) == 3


def test_changed_source_is_loaded_again_with_its_helpers(write: Write) -> None:
    assert load_code("shop_code:ratio", where="x")(3) == 3
    write("shop_helpers", "def half(value):\n    return value / 2 + 100\n")
    assert load_code("shop_code:ratio", where="x")(3) == 203


def test_name_that_is_not_allowed_is_not_imported(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PACKAGES_VARIABLE, "shop_helpers")
    with pytest.raises(UserCodeError) as caught:
        load_code("shop_code:ratio", where="features.transform")
    assert caught.value.where == "features.transform"
    assert PACKAGES_VARIABLE in caught.value.fix
    assert "shop_code" not in sys.modules


def test_file_of_the_folder_does_not_replace_an_installed_package(write: Write, tmp_path: Path) -> None:
    (tmp_path / "sklearn.py").write_text("raise SystemExit('imported')")
    assert load_code("sklearn.linear_model:Ridge", where="x").__name__ == "Ridge"


def test_digests_name_file_and_function_and_import_nothing(write: Write) -> None:
    before = source_digests(["shop_code:ratio"])
    assert {file: set(names) for file, names in before.items()} == {
        "shop_code.py": {"ratio", "other", "module level"},
        "shop_helpers.py": {"half", "module level"},
    }
    assert "shop_code" not in sys.modules
    write("shop_helpers", HELPERS.replace("/ 2", "/ 2.0"))
    after = source_digests(["shop_code:ratio"])
    assert changed_sources(before, after) == ["shop_helpers.py: half"]
    write("shop_code", MAIN.replace("LIMIT = 10", "LIMIT = 11"))
    assert changed_sources(after, source_digests(["shop_code:ratio"])) == ["shop_code.py: module level"]


def test_code_of_versioned_default_packages_has_no_digests(write: Write) -> None:
    assert source_digests(["sklearn.linear_model.Ridge"]) == {}


def test_short_digests_fit_into_a_tag() -> None:
    few = {"a.py": {"f": "0" * 64}}
    assert json.loads(short_digests(few)) == {"a.py": {"f": "0" * 8}}
    many = {"a.py": {f"function_{number}": "0" * 64 for number in range(1000)}}
    assert list(json.loads(short_digests(many))["a.py"]) == [""]
    assert short_digests({f"file_{number}.py": {"f": ""} for number in range(1000)}) == ""


@pytest.mark.parametrize("path", ["shop_gone:f", "shop_helpers.gone:f"])
def test_missing_module_is_one_error(write: Write, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setenv(PACKAGES_VARIABLE, "shop_gone,shop_helpers")
    for call in (lambda: load_code(path, where="x"), lambda: source_digests([path])):
        with pytest.raises(UserCodeError) as caught:
            call()
        assert FOLDER_VARIABLE in caught.value.fix


def test_missing_name_lists_the_others(write: Write) -> None:
    with pytest.raises(UserCodeError) as caught:
        load_code("shop_code:gone", where="x")
    assert "ratio" in caught.value.expected
    assert caught.value.got == "gone"


@pytest.mark.parametrize(
    ("text", "line", "statement"),
    [
        ("x = 1\nboom()\n", 2, "boom()"),
        ("x = 1\nimport not_installed_here\n", 2, "import not_installed_here"),
        ("x = (\n", 1, "x = ("),
        ("import sys\nsys.exit(3)\n", 2, "sys.exit(3)"),
    ],
)
def test_failing_import_shows_the_users_line(write: Write, text: str, line: int, statement: str) -> None:
    write("shop_code", text)
    with pytest.raises(UserCodeError) as caught:
        load_code("shop_code:ratio", where="x")
    assert f"shop_code.py:{line}: " in caught.value.what
    assert caught.value.got == statement


def test_digests_of_invalid_source_show_the_users_line(write: Write) -> None:
    write("shop_helpers", "def half(value):\n    return (\n")
    with pytest.raises(UserCodeError) as caught:
        source_digests(["shop_code:ratio"])
    assert "shop_helpers.py:2: SyntaxError" in caught.value.what


def test_package_without_sources_beside_its_module_is_found(write: Write, tmp_path: Path) -> None:
    (tmp_path / "shop_helpers.py").unlink()
    (tmp_path / "shop_helpers").mkdir()
    (tmp_path / "shop_helpers" / "deep.py").write_text("def f():\n    return 7\n")
    sys.modules.pop("shop_helpers", None)
    assert load_code("shop_helpers.deep:f", where="x")() == 7
    assert list(source_digests(["shop_helpers.deep:f"])) == ["shop_helpers/deep.py"]
