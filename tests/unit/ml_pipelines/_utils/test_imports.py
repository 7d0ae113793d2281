from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ml_pipelines._utils.imports import import_object
from ml_pipelines.errors import MissingExtra


def test_import_object_returns_the_object() -> None:
    assert import_object("ml_pipelines._utils.imports:import_object") is import_object


def test_import_object_names_a_missing_package_and_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needs_it.py").write_text("import no_such_package.inner")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MissingExtra) as caught:
        import_object("needs_it:work")
    assert caught.value.what == "the package 'no_such_package' is not installed"
    assert caught.value.where == "needs_it"
    assert 'pip install "airflow-provider-ml-pipelines[ml]"' in caught.value.fix
    assert "needs_it" not in sys.modules


def test_import_object_propagates_a_missing_own_module() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"ml_pipelines\.nothing"):
        import_object("ml_pipelines.nothing:work")
