"""Whether the DAGs of a package can be imported, found out without an Airflow that runs."""

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

__all__ = ["DagCheckReport", "DagFile", "build_release", "dag_table", "parse"]

FOREIGN = ("AIRFLOW", "ML_PIPELINES", "MLFLOW")


@dataclass(frozen=True)
class DagFile:
    """A DAG file: its name below the folder, its DAGs, the number of their tasks, and how long it took to import."""

    file: str
    dags: tuple[str, ...]
    tasks: int
    seconds: float


@dataclass(frozen=True)
class DagCheckReport:
    """What came of a folder.

    Attributes:
        files: that were imported.
        faults: what is wrong, by file.
        heavy: packages that are loaded by parsing and belong into tasks.
    """

    files: tuple[DagFile, ...]
    faults: dict[str, str]
    heavy: tuple[str, ...]

    @property
    def right(self) -> bool:
        """Whether it may be released."""
        return bool(self.files) and not self.faults and not self.heavy


def parse(folder: Path) -> DagCheckReport:
    """Parse a folder in a new process, with the default settings of Airflow and without a database.

    Raises:
        RequestError: there is no such folder, or Airflow itself can't be started.
    """
    if not folder.is_dir():
        raise RequestError("there is no such folder", where=str(folder), fix="name the folder with the DAG files")
    with tempfile.TemporaryDirectory() as home:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        settings = {"AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        command = [sys.executable, "-m", "ml_pipelines_airflow.release.parse_worker", str(folder.resolve())]
        done = subprocess.run(command, env=kept | settings, capture_output=True, text=True)
    if done.returncode:
        raise RequestError("the DAGs could not be parsed", where=str(folder), got=done.stderr.strip()[-2000:])
    return _told(json.loads(done.stdout.splitlines()[-1]))


def build_release(parsed: DagCheckReport, version: str | None) -> Release:
    """What a build offers that has these DAGs."""
    return Release(version=version, dags=tuple(sorted(name for each in parsed.files for name in each.dags)))


def dag_table(parsed: DagCheckReport) -> Table:
    """The files as a table for people."""
    table = Table(box=None, pad_edge=False)
    for column in ("file", "DAGs", "tasks", "seconds", ""):
        table.add_column(column, justify="right" if column in ("tasks", "seconds") else "left")
    for row in _lines(parsed):
        table.add_row(*row)
    return table


def _lines(parsed: DagCheckReport) -> Iterator[tuple[str, ...]]:
    for each in parsed.files:
        verdict = "WRONG" if each.file in parsed.faults else "right"
        yield each.file, ", ".join(each.dags), str(each.tasks), f"{each.seconds:.2f}", verdict
    for file in sorted(set(parsed.faults) - {each.file for each in parsed.files}):
        yield file, "", "", "", "WRONG"


def _told(found: dict[str, Any]) -> DagCheckReport:
    files = (DagFile(each["file"], tuple(each["dags"]), each["tasks"], each["seconds"]) for each in found["files"])
    return DagCheckReport(tuple(files), found["faults"], tuple(found["heavy"]))
