from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import ModuleType

import pytest

from ml_pipelines.errors import DataError, UserCodeError
from ml_pipelines.pipeline.user_errors import user_code_errors
from ml_pipelines.spec.code_packages import PACKAGES_VARIABLE

SOURCE = """\
def outer(values):
    print("outer", end="")
    return inner(values)


def inner(values):
    return {}[values]
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (tmp_path / "shop_errors.py").write_text(SOURCE)
    monkeypatch.setenv(PACKAGES_VARIABLE, "shop_errors")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "shop_errors", raising=False)
    return __import__("shop_errors")


def test_error_starts_with_the_deepest_line_of_the_user(module: ModuleType) -> None:
    with pytest.raises(UserCodeError) as caught, user_code_errors("shop_errors:outer", "features.transform"):
        module.outer("a")
    assert caught.value.what == f"{module.__file__}:7: KeyError: 'a'"
    assert caught.value.got == "return {}[values]"
    assert caught.value.where == "features.transform: shop_errors:outer, in inner"


def test_error_before_the_code_runs_names_the_path(module: ModuleType) -> None:
    with pytest.raises(UserCodeError) as caught, user_code_errors("shop_errors:outer", "x"):
        module.outer()
    assert caught.value.what.startswith("shop_errors:outer raised TypeError")


def test_prints_go_to_the_log(
    module: ModuleType, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), user_code_errors("shop_errors:outer", "x"):
        print("one\ntwo", end="")
    assert [record.message for record in caplog.records] == ["one", "two"]
    assert capsys.readouterr().out == ""


def test_own_errors_and_lack_of_memory_pass(module: ModuleType) -> None:
    for error in (DataError("few rows"), MemoryError()):
        with pytest.raises(type(error)), user_code_errors("shop_errors:outer", "x"):
            raise error
