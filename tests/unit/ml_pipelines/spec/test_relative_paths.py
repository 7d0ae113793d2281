from __future__ import annotations

from pathlib import Path

import pytest

from ml_pipelines.pipeline.step_parameters import IngestParameters
from ml_pipelines.spec.loader import load_spec, parse_spec
from ml_pipelines.spec.relative_paths import path_beside, source_beside, source_from
from ml_pipelines.spec.sources import DvcSource, FileSource, SqlSource

TEXT = "model: {name: m, task: classification}\ndata: {file: {path: data/a.csv}, target: y}\n"
UNCHANGED = [
    "/data/a.csv",
    "~/a.csv",
    "${ML_DATA_FOLDER}/a.csv",
    "s3://bucket/a.csv",
    "file:///data/a.csv",
    "simplecache::https://example.org/a.csv",
    "https://git.example.org/data.git",
    "git@git.example.org:team/data.git",
    "git.example.org:team/data.git",
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.csv", "/p/dags/a.csv"),
        ("data/a.csv", "/p/dags/data/a.csv"),
        ("./a.csv", "/p/dags/a.csv"),
        ("../data/a.csv", "/p/data/a.csv"),
        ("../../a.csv", "/a.csv"),
        ("data/${ML_DATA_DAY}.csv", "/p/dags/data/${ML_DATA_DAY}.csv"),
        *((text, text) for text in UNCHANGED),
    ],
)
def test_a_relative_path_is_beside_the_declaration(text: str, expected: str) -> None:
    assert path_beside(Path("/p/dags"), text) == expected


def test_only_the_field_with_a_path_changes() -> None:
    folder = Path("/p/dags")
    assert source_beside(folder, FileSource(path="a.csv")) == FileSource(path="/p/dags/a.csv")
    assert source_beside(folder, DvcSource(repo="../data", path="a.csv")) == DvcSource(repo="/p/data", path="a.csv")
    for source in (DvcSource(connection="sales", path="a.csv"), SqlSource(query="q", url="sqlite:///a.db")):
        assert source_beside(folder, source) == source


def test_parameters_are_the_same_from_each_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "dags"
    folder.mkdir()
    (folder / "shop.yaml").write_text(TEXT)
    for cwd, path in ((tmp_path, "dags/shop.yaml"), (folder, "shop.yaml")):
        monkeypatch.chdir(cwd)
        spec = load_spec(path)
        assert spec.data.source == FileSource(path="data/a.csv")
        assert IngestParameters.of(spec).source == FileSource(path=str(folder / "data" / "a.csv"))
    assert IngestParameters.of(parse_spec(TEXT, path="shop.yaml")).source == FileSource(path="data/a.csv")


def test_a_path_of_the_working_directory_is_rewritten_for_a_declaration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dags").mkdir()
    assert source_from(Path("dags"), FileSource(path="data/a.csv")) == FileSource(path="../data/a.csv")
    assert source_from(Path("dags"), FileSource(path="dags/a.csv")) == FileSource(path="a.csv")
    assert source_from(Path(), FileSource(path="./a.csv")) == FileSource(path="a.csv")
    for text in UNCHANGED:
        assert source_from(Path("dags"), FileSource(path=text)) == FileSource(path=text)
