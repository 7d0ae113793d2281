"""Folders of DAGs, parsed for real in a process of their own."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from ml_pipelines.errors import RequestError
from ml_pipelines_airflow.release.dag_check import DagCheckReport, DagFile, build_release, dag_table, parse
from ml_pipelines_airflow.release.verify import Release

GOOD = """
from airflow.sdk import DAG

with DAG("good"):
    pass
with DAG("second"):
    pass
"""
NOT_SERIALISED = """
from airflow.sdk import DAG, Param

dag = DAG("odd", params={"given": Param({1, 2})})
"""
DECLARED = "from ml_pipelines_airflow.dag_builders.training import training_dag\n\ndag = training_dag(__file__)\n"
DECLARATION = """
model: {name: m, task: classification}
data: {file: {path: rows.csv}, key: id, target: y}
candidates:
  - {name: forest, estimator: sklearn.ensemble.RandomForestClassifier, params: {max_dept: 3}}
gate: {metric: roc_auc}
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> DagCheckReport:
    folder = tmp_path_factory.mktemp("dags")
    files = {
        "good.py": GOOD,
        "below/heavy.py": "import numpy\n" + GOOD.replace("good", "heavy").replace("second", "third"),
        "broken.py": "import airflow\n# a dag\nraise ValueError('no')\n",
        "odd.py": NOT_SERIALISED,
        "silent.py": "x = 1\n",
        "declared.py": DECLARED,
        "declared.yaml": DECLARATION.replace("max_dept", "max_depth"),
        "mistaken.py": DECLARED,
        "mistaken.yaml": DECLARATION,
        "good.yaml": "of something: else\n",
        "empty.py": "import airflow\n# no dag\n",
        "helpers.py": "x = 1\n",
        ".airflowignore": "helpers.py\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return parse(folder)


def test_dags_are_found_file_by_file(found: DagCheckReport) -> None:
    dags = {each.file: each.dags for each in found.files}
    assert (dags["good.py"], dags["below/heavy.py"]) == (("good", "second"), ("heavy", "third"))


def test_every_file_that_is_wrong_says_why(found: DagCheckReport) -> None:
    assert set(found.faults) == {"broken.py", "empty.py", "mistaken.py", "odd.py", "silent.py"}
    assert "ValueError: no" in found.faults["broken.py"]
    assert found.faults["odd.py"]
    assert re.search(r"mistaken\.yaml:5:\d+: candidates\[0\]\.params\.max_dept", found.faults["mistaken.py"])
    assert "did you mean max_depth?" in found.faults["mistaken.py"]
    assert found.faults["silent.py"].startswith("there is no DAG in it; Airflow passes over a file without both words")


def test_what_trains_is_not_to_be_loaded(found: DagCheckReport) -> None:
    assert found.heavy == ("numpy",)
    assert not found.right


def test_the_table_has_a_line_for_every_file(found: DagCheckReport) -> None:
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(dag_table(found))
    lines = {line.split()[0]: line.split()[-1] for line in console.export_text().splitlines()[1:]}
    assert lines["good.py"] == "right"
    assert {lines[file] for file in found.faults} == {"WRONG"}


def test_a_release_has_the_dags_in_order() -> None:
    files = (DagFile("b.py", ("z", "b"), 2, 0.1), DagFile("a.py", ("a",), 1, 0.1))
    parsed = DagCheckReport(files, {}, ())
    assert parsed.right
    assert build_release(parsed, "1-a") == Release(version="1-a", dags=("a", "b", "z"))


def test_no_dags_at_all_is_wrong() -> None:
    assert not DagCheckReport((), {}, ()).right


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="there is no such folder") as caught:
        parse(tmp_path / "none")
    assert caught.value.where == str(tmp_path / "none")


def test_a_process_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "false")
    with pytest.raises(RequestError, match="the DAGs could not be parsed"):
        parse(tmp_path)
