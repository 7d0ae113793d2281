from __future__ import annotations

import ast
from pathlib import Path

import pytest

import ml_pipelines
from ml_pipelines.errors import RequestError
from ml_pipelines.scaffolding.project import create_project


def test_project_has_the_folders_of_airflow(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "shop"
    written = create_project(folder)
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {path.relative_to(folder).as_posix() for path in written}
    assert {".gitignore", "README.md", "requirements.txt", "include/.gitkeep", "plugins/.gitkeep"} <= names
    assert {"dags/ml_doctor.py", "tests/test_dags.py"} <= names
    for path in folder.rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text()))
    assert (folder / "README.md").read_text().startswith("# shop\n")
    assert f"=={ml_pipelines.__version__}\n" in (folder / "requirements.txt").read_text()


def test_empty_folder_may_exist(tmp_path: Path) -> None:
    assert create_project(tmp_path)


def test_folder_with_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes").touch()
    for folder in (tmp_path, tmp_path / "notes", tmp_path / "notes" / "project"):
        with pytest.raises(RequestError):
            create_project(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]
