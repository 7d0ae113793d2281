"""From a file to a promoted model, and from nothing to a project, by the real command in a new process."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag

COMMAND = [sys.executable, "-c", "from ml_pipelines.cli.app import main; main()"]

pytestmark = pytest.mark.timeout(900)


def run(folder: Path, *arguments: str, command: list[str] = COMMAND) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ML_PIPELINES", "MLFLOW"))}
    done = subprocess.run(
        [*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_file_becomes_a_promoted_model(tmp_path: Path) -> None:
    customers = files("ml_pipelines").joinpath("sample_data/customers-2026-10.csv").read_text()
    (tmp_path / "shop customers.csv").write_text(customers)
    out = run(tmp_path, "init", "shop customers.csv", "--target", "label")
    assert out.endswith("next: ml-pipelines run shop_customers.yaml\n")
    run(tmp_path, "validate", "shop_customers.yaml")
    assert "PROMOTED" in run(tmp_path, "run", "shop_customers.yaml", "--require-promotion")


def test_a_new_project_is_a_repository_that_passes_its_test(tmp_path: Path) -> None:
    run(tmp_path, "new", "project")
    project = tmp_path / "project"
    sample = files("ml_pipelines").joinpath("sample_data/credit.csv").read_text()
    (tmp_path / "credit.csv").write_text(sample)
    out = run(project, "init", str(tmp_path / "credit.csv"), "--target", "Status")
    assert "wrote dags/credit.py" in out
    git = ["git", "-c", "user.name=me", "-c", "user.email=me@example.org", "-c", "init.defaultBranch=main"]
    for arguments in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "Start"]):
        run(project, *arguments, command=git)
    run(tmp_path, "clone", "--quiet", "project", "clone", command=git)
    clone = tmp_path / "clone"
    assert {"dags", "include", "plugins", "tests"} <= {path.name for path in clone.iterdir()}
    assert not (clone / ".ml-pipelines").exists()
    run(clone, "--quiet", "-p", "no:cacheprovider", command=[sys.executable, "-m", "pytest"])
    bag = DagBag(dag_folder=str(clone / "dags"))
    assert bag.import_errors == {}
    assert set(bag.dags) == {"credit", "ml_doctor", "ml_model_rollback"}
