"""Folders of DAGs, parsed for real in a process of their own."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from ml_pipelines.errors import RequestError
from ml_pipelines_airflow.release.dag_check import DagCheckReport, DagFile, build_release, check_dags, dag_table
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
def report(tmp_path_factory: pytest.TempPathFactory) -> DagCheckReport:
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
    return check_dags(folder)


def test_check_dags_lists_dags_by_file(report: DagCheckReport) -> None:
    dags = {file.file: file.dags for file in report.files}
    assert (dags["good.py"], dags["below/heavy.py"]) == (("good", "second"), ("heavy", "third"))


def test_check_dags_reports_the_error_of_each_file(report: DagCheckReport) -> None:
    assert set(report.faults) == {"broken.py", "empty.py", "mistaken.py", "odd.py", "silent.py"}
    assert "ValueError: no" in report.faults["broken.py"]
    assert report.faults["odd.py"]
    assert re.search(r"mistaken\.yaml:5:\d+: candidates\[0\]\.params\.max_dept", report.faults["mistaken.py"])
    assert "did you mean max_depth?" in report.faults["mistaken.py"]
    assert report.faults["silent.py"].startswith("the file defines no DAG; Airflow skips a file without both words")


def test_check_dags_fails_on_heavy_imports(report: DagCheckReport) -> None:
    assert report.heavy == ("numpy",)
    assert not report.passed


def test_dag_table_has_a_row_for_each_file(report: DagCheckReport) -> None:
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(dag_table(report))
    lines = {line.split()[0]: line.split()[-1] for line in console.export_text().splitlines()[1:]}
    assert lines["good.py"] == "ok"
    assert {lines[file] for file in report.faults} == {"failed"}


def test_build_release_sorts_dags() -> None:
    files = (DagFile("b.py", ("z", "b"), 2, 0.1), DagFile("a.py", ("a",), 1, 0.1))
    parsed = DagCheckReport(files, {}, ())
    assert parsed.passed
    assert build_release(parsed, "1-a") == Release(version="1-a", dags=("a", "b", "z"))


def test_report_without_dags_fails() -> None:
    assert not DagCheckReport((), {}, ()).passed


def test_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="the folder does not exist") as caught:
        check_dags(tmp_path / "none")
    assert caught.value.where == str(tmp_path / "none")


def test_failed_process_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "false")
    with pytest.raises(RequestError, match="the DAGs could not be parsed"):
        check_dags(tmp_path)
