from __future__ import annotations

from pathlib import Path

import pytest

from ml_pipelines.errors import RequestError
from ml_pipelines.scaffolding.files import declaration_path, write_file, write_pipeline


def test_declaration_is_in_the_folder_dags_if_it_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert declaration_path(None, "churn") == Path("churn.yaml")
    (tmp_path / "dags").mkdir()
    assert declaration_path(None, "churn") == Path("dags/churn.yaml")
    assert declaration_path(tmp_path, "churn") == tmp_path / "churn.yaml"


def test_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="folder"):
        declaration_path(tmp_path / "nothing", "churn")


def test_pipeline_in_dags_has_a_dag_file(tmp_path: Path) -> None:
    path = tmp_path / "dags" / "churn.yaml"
    path.parent.mkdir()
    assert list(write_pipeline(path, "model: {}\n")) == [path, path.with_suffix(".py")]
    assert "training_dag(__file__)" in path.with_suffix(".py").read_text()


def test_pipeline_elsewhere_has_no_dag_file(tmp_path: Path) -> None:
    assert list(write_pipeline(tmp_path / "random.yaml", "text")) == [tmp_path / "random.yaml"]


def test_no_file_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "dags" / "churn.yaml"
    path.parent.mkdir()
    path.with_suffix(".py").write_text("own code")
    assert list(write_pipeline(path, "first")) == [path]
    assert path.with_suffix(".py").read_text() == "own code"
    for write in (lambda: write_file(path, "second"), lambda: declaration_path(path.parent, "churn")):
        with pytest.raises(RequestError, match="exists"):
            write()
    assert path.read_text() == "first"


def test_unwritable_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match="written"):
        write_file(tmp_path / "file" / "a.yaml", "text")
