from __future__ import annotations

from ml_pipelines.contracts import StepResult
from ml_pipelines.runner.run_difference import RunFigures, run_difference


def result(step: str, status: str, reason: str = "") -> StepResult:
    return StepResult.model_validate({"step": step, "key": "0" * 64, "status": status, "reason": reason})


BEFORE = RunFigures(run_id="a", steps={}, rows={"table": 1000}, winner="linear", metrics={"test roc_auc": 0.8})


def test_computed_steps_rows_and_metrics_are_listed() -> None:
    after = RunFigures(
        run_id="b",
        steps={
            "ingest": result("ingest", "cached"),
            "compare_with_champion": result("compare_with_champion", "published"),
            "train[tree]": result("train", "computed", "miss: first time"),
        },
        rows={"table": 1010, "train": 700},
        winner="tree",
        metrics={"test roc_auc": 0.85, "test f1": None},
    )
    assert run_difference(BEFORE, after) == [
        ("computed", "train[tree], miss: first time"),
        ("reused", "1 of 2 results"),
        ("rows", "table 1,000 -> 1,010 (+10)"),
        ("candidate", "linear -> tree"),
        ("metric", "test roc_auc 0.8 -> 0.85 (+0.05)"),
    ]


def test_equal_runs_have_no_difference() -> None:
    assert run_difference(BEFORE, BEFORE) == [
        ("reused", "0 of 0 results"),
        ("difference", "none in rows and metrics"),
    ]


def test_a_first_run_is_compared_with_none() -> None:
    assert run_difference(None, BEFORE) == [("reused", "0 of 0 results")]
