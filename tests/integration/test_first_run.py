"""A first run that was interrupted at any moment can be run again: each test starts from an empty workspace.

`ML_PIPELINES_FIRST_RUN_KILLS` sets the number of empty workspaces with one kill each; by default one has five kills.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from tests.integration import test_faults
from tests.integration.test_faults import DECLARATION, PIPELINE, Worker, Workspace, assert_whole, mlflow_picture

worker = test_faults.worker
pytestmark = test_faults.pytestmark

WORKSPACES = int(os.environ.get("ML_PIPELINES_FIRST_RUN_KILLS", "1"))
KILLS_PER_WORKSPACE = 5 if "ML_PIPELINES_FIRST_RUN_KILLS" not in os.environ else 1
LAST_KILL_SECONDS = 8.0  # a first run takes about ten
# Each stops the run somewhere else: while tables are written, in SQLite, in MLflow's tables, in the model's files.
FILE_SIZES = (1_000, 20_000, 60_000, 200_000, 700_000, 1_000_000)


@pytest.fixture
def workspace(worker: Worker, tmp_path: Path) -> Iterator[Workspace]:
    rows = files("ml_pipelines").joinpath("sample_data/customers-2026-11.csv").read_text().splitlines(keepends=True)
    (tmp_path / "november.csv").write_text("".join(rows[:421]))
    (tmp_path / f"{PIPELINE}.yaml").write_text(DECLARATION)
    root = tmp_path / "empty"
    # Three folders, none of which exists.
    return Workspace(root, tmp_path, worker, f"sqlite:///{root}/a/b/mlflow.db", f"sqlite:///{root}/c/ledger.db")


def runs(workspace: Workspace, run_id: str, **job: object) -> tuple[int, str]:
    # The outputs lie beside the workspace, which starts without even its folder.
    places = {name: str(workspace.data / f"{run_id}.{name}") for name in ("out", "err")}
    done = workspace.run_together(workspace.job(run_id, **{**places, **job}))[0]
    return done.code, done.err


def assert_promoted(workspace: Workspace, run_id: str) -> None:
    assert_whole(workspace)
    assert workspace.entries()[run_id] == ("promoted", "1")
    picture = mlflow_picture(workspace.mlflow, run_id)
    assert picture["aliases"] == {"champion": "1"}
    assert {status for _, status, *_ in picture["runs"]} == {"FINISHED"}


@pytest.mark.parametrize("seed", range(WORKSPACES))
def test_a_first_run_that_is_killed_can_be_run_again(workspace: Workspace, seed: int) -> None:
    moments = random.Random(seed)
    for _ in range(KILLS_PER_WORKSPACE):
        code, err = runs(workspace, "first", kill_after=moments.uniform(0.02, LAST_KILL_SECONDS))
        assert code in (0, -signal.SIGKILL), err
    code, err = runs(workspace, "first")
    assert (code, err) == (0, "")
    assert_promoted(workspace, "first")


def test_a_first_run_on_a_full_disk_can_be_run_again(workspace: Workspace) -> None:
    """Limits of the size of files let each write that is larger fail, as a full disk does."""
    for size in FILE_SIZES:
        code, err = runs(workspace, "first", file_bytes=size)
        assert code in (0, 1), err
        assert code == 0 or err.startswith(("StoreUnavailable: ", "ServiceUnavailable: ")), (size, err)
        assert "Traceback" not in err
    code, err = runs(workspace, "first")
    assert (code, err) == (0, "")
    assert_promoted(workspace, "first")
