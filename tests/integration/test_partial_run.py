"""Runs that end after a step: `ml-pipelines run --until`, in processes of their own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from ml_pipelines.pipeline.training import TRAINING_STEPS

pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated:DeprecationWarning:mlflow"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]


def run(shop: Any, run_id: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("ml-pipelines")), "run", str(shop.yaml), "--run-id", run_id]
    command += ["--store", str(shop.folder / "store"), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=shop.folder)


def statuses(shop: Any, run_id: str) -> dict[str, str]:
    return {step: record.result.status for step, record in shop.records(run_id).items()}


@pytest.fixture
def partial_shop(shop: Any) -> Any:
    """A shop whose model only these tests use."""
    shop.declare(model={"name": "partial", "task": "classification"})
    return shop


def test_a_run_ends_after_a_step_and_the_next_one_reuses_it(partial_shop: Any, mlflow_uri: str) -> None:
    shop = partial_shop
    done = run(shop, "split", "--until", "split")
    assert (done.returncode, done.stderr) == (0, "")
    assert list(statuses(shop, "split")) == ["ingest", "compare_with_champion", "check_quality", "preprocess", "split"]
    assert "UNTIL SPLIT" in done.stdout
    assert re.search(r"run +split", done.stdout)
    assert "400 = 400 kept + 0 quarantined" in done.stdout
    done = run(shop, "evaluate", "--until", "evaluate")
    assert (done.returncode, done.stderr) == (0, "")
    assert "dummy baseline" in done.stdout
    assert "linear *" in done.stdout
    done = run(shop, "decide", "--until", "decide")
    assert "promoted, not carried out" in done.stdout
    assert "beats dummy" in done.stdout
    assert shop.ledger.models() == ()
    assert not MlflowClient(mlflow_uri).search_model_versions("name='partial'")
    done = run(shop, "complete")
    assert (done.returncode, shop.outcome("complete")) == (0, "promoted"), done
    computing = {step for step, row in TRAINING_STEPS.items() if row.compute}
    assert {statuses(shop, "complete")[step] for step in computing} == {"cached"}
    # Nothing has changed since the champion; the partial run shows its results all the same.
    done = run(shop, "again", "--until", "evaluate")
    assert "evaluate" in statuses(shop, "again")
    assert "version 1, unchanged" in done.stdout


def test_a_failed_check_ends_a_partial_run(partial_shop: Any) -> None:
    shop = partial_shop
    shop.declare(
        model={"name": "stopped", "task": "classification"},
        checks={"rows": {"min": 10_000}},
    )
    done = run(shop, "stopped", "--until", "evaluate")
    assert done.returncode == 0
    assert "stopped: STOPPED" in done.stdout
    assert "A quality check ended the run" in done.stdout
    assert list(statuses(shop, "stopped")) == ["ingest", "compare_with_champion", "check_quality"]


def test_a_failed_candidate_is_shown(partial_shop: Any) -> None:
    shop = partial_shop
    bad = {
        "name": "bad",
        "estimator": "sklearn.linear_model.LogisticRegression",
        "params": {"solver": "lbfgs", "l1_ratio": 1.0},
    }
    good = {"name": "good", "estimator": "sklearn.linear_model.LogisticRegression"}
    shop.declare(model={"name": "failing", "task": "classification"}, candidates=[bad, good])
    done = run(shop, "train", "--until", "train")
    assert done.returncode == 0, done.stderr
    assert "trained" in done.stdout
    assert "bad: " in done.stdout


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--until", "trian"], 1, "did you mean 'train'?"),
        (["--until", "deploy"], 1, "a run can't end after the step 'deploy'"),
        (["--until", "train", "--approve"], 2, "--until"),
    ],
)
def test_a_wrong_end_is_refused(partial_shop: Any, options: list[str], code: int, message: str) -> None:
    done = run(partial_shop, "wrong", *options)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert partial_shop.store.run("shop", "wrong") == []
