from __future__ import annotations

from pathlib import Path

import pytest

from ml_pipelines.runner.watched_files import file_stamps, watched_files
from ml_pipelines.spec.loader import load_spec

DECLARATION = """
model: {name: m, task: classification}
data: {file: {path: %s}, target: y}
features: {transform: "watched_code:add"}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ML_PIPELINES_CODE_PACKAGES", "watched_code,watched_helper")
    (tmp_path / "watched_helper.py").write_text("FACTOR = 2\n")
    (tmp_path / "watched_code.py").write_text("import watched_helper\n\n\ndef add(frame):\n    return frame\n")
    (tmp_path / "dag.py").write_text("")
    path = tmp_path / "m.yaml"
    path.write_text(DECLARATION % "data/a.csv")
    return path


def names(file: Path) -> list[str]:
    return sorted(str(path.relative_to(file.parent)) for path in watched_files(file, load_spec(file)))


def test_declaration_data_and_imported_modules_are_watched(file: Path) -> None:
    assert names(file) == ["data/a.csv", "m.yaml", "watched_code.py", "watched_helper.py"]


def test_remote_data_is_not_watched(file: Path) -> None:
    file.write_text(DECLARATION % '"s3://bucket/a.csv"')
    assert names(file) == ["m.yaml", "watched_code.py", "watched_helper.py"]


def test_data_behind_a_variable_are_watched(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(DECLARATION % '"${ML_DATA_WATCHED}/b.csv"')
    assert names(file) == ["m.yaml", "watched_code.py", "watched_helper.py"]
    monkeypatch.setenv("ML_DATA_WATCHED", str(file.parent))
    assert names(file) == ["b.csv", "m.yaml", "watched_code.py", "watched_helper.py"]


def test_code_that_cannot_be_read_is_watched_with_all_modules_of_the_folder(file: Path) -> None:
    spec = load_spec(file)
    file.with_name("watched_code.py").write_text("def add(")
    names = {path.name for path in watched_files(file, spec)}
    assert {"watched_code.py", "dag.py", "m.yaml"} <= names


def test_stamps_show_written_replaced_and_removed_files(file: Path) -> None:
    files = frozenset({file, file.with_name("gone.csv")})
    before = file_stamps(files)
    assert before[file.with_name("gone.csv")] is None
    file.write_text("longer than before")
    assert file_stamps(files)[file] != before[file]
    file.unlink()
    assert file_stamps(files)[file] is None
