"""Check that the DAGs of a package can be imported, without a running Airflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from ml_pipelines.errors import RequestError
from ml_pipelines_airflow.release.verify import Release

__all__ = ["DagCheckReport", "DagFile", "build_release", "check_dags", "dag_table"]

UNSET_PREFIXES = ("AIRFLOW", "ML_PIPELINES", "MLFLOW")


@dataclass(frozen=True)
class DagFile:
    """A DAG file: its path in the folder, its DAG ids, its number of tasks and its import time."""

    file: str
    dags: tuple[str, ...]
    tasks: int
    seconds: float


@dataclass(frozen=True)
class DagCheckReport:
    """Result of a check of a folder.

    Attributes:
        files: imported files.
        faults: error text by file.
        heavy: packages that parsing imports and only tasks need.
    """

    files: tuple[DagFile, ...]
    faults: dict[str, str]
    heavy: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the DAGs can be released."""
        return bool(self.files) and not self.faults and not self.heavy


def check_dags(folder: Path) -> DagCheckReport:
    """Parse a folder in a new process, with default settings of Airflow and without a database.

    Raises:
        RequestError: the folder does not exist, or Airflow cannot start.
    """
    if not folder.is_dir():
        raise RequestError("the folder does not exist", where=str(folder), fix="name the folder with the DAG files")
    with tempfile.TemporaryDirectory() as home:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(UNSET_PREFIXES)}
        settings = {"AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        command = [sys.executable, "-m", "ml_pipelines_airflow.release.parse_worker", str(folder.resolve())]
        process = subprocess.run(command, env=inherited | settings, capture_output=True, text=True)
    if process.returncode:
        raise RequestError("the DAGs could not be parsed", where=str(folder), got=process.stderr.strip()[-2000:])
    return _read_report(json.loads(process.stdout.splitlines()[-1]))


def build_release(report: DagCheckReport, version: str | None) -> Release:
    """Return the description of a release with these DAGs."""
    return Release(version=version, dags=tuple(sorted(name for file in report.files for name in file.dags)))


def dag_table(report: DagCheckReport) -> Table:
    """Return the files as a table."""
    table = Table(box=None, pad_edge=False)
    for column in ("file", "DAGs", "tasks", "seconds", ""):
        table.add_column(column, justify="right" if column in ("tasks", "seconds") else "left")
    for row in _rows(report):
        table.add_row(*row)
    return table


def _rows(report: DagCheckReport) -> Iterator[tuple[str, ...]]:
    for file in report.files:
        status = "failed" if file.file in report.faults else "ok"
        yield file.file, ", ".join(file.dags), str(file.tasks), f"{file.seconds:.2f}", status
    for name in sorted(set(report.faults) - {file.file for file in report.files}):
        yield name, "", "", "", "failed"


def _read_report(content: dict[str, Any]) -> DagCheckReport:
    files = (DagFile(row["file"], tuple(row["dags"]), row["tasks"], row["seconds"]) for row in content["files"])
    return DagCheckReport(tuple(files), content["faults"], tuple(content["heavy"]))
