from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ml_pipelines.evaluation.evaluation_rows import EvaluationRows, Part
from ml_pipelines.evaluation.records import Evaluation
from ml_pipelines.evaluation.report_metrics import Resampling, add_report_metrics
from ml_pipelines.evaluation.target_schema import TargetSchema
from ml_pipelines.spec.code_packages import PACKAGES_VARIABLE

CODE = """
calls = 0

def hits(truth, predicted):
    return (truth == predicted).mean()

def fails(truth, predicted):
    raise ZeroDivisionError("<b>no</b>")

def fails_later(truth, predicted):
    global calls
    calls += 1
    if calls > 20:
        raise KeyError("late")
    return 1.0

def text(truth, predicted):
    return "much"

def nothing(truth, predicted):
    return float("nan")
"""
TRUTH = np.array([0, 1] * 40)
SCORES = np.where(np.arange(80) % 5 == 0, 1 - TRUTH, TRUTH) * 0.8 + 0.1
HITS = "report_code:hits higher labels"


@pytest.fixture(autouse=True)
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "report_code.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "report_code", raising=False)
    monkeypatch.setenv(PACKAGES_VARIABLE, "report_code")


def rows(truth: Any) -> EvaluationRows:
    part = Part("test", pl.LazyFrame(), truth)
    return EvaluationRows(TargetSchema("classification", ("no", "yes"), "yes"), [], part, part, part, groups=[])


def added(*names: str, champion: Any = SCORES[:60], threshold: float | None = None) -> Evaluation:
    evaluation = Evaluation.model_validate(
        {
            "task": "classification",
            "metric": "roc_auc",
            "winner": "tree",
            "selection": {"winner": "tree", "best": "tree", "scores": [], "reason": "so"},
            "candidates": [
                {"candidate": name, "validation": {}, "test": {"roc_auc": 0.9}, "threshold": threshold}
                for name in ("line", "tree")
            ],
            "champion": {"identity": "c", "threshold": threshold},
            "dummy": {"test": {"roc_auc": 0.5}},
            "rows": {"test": 80},
            "intervals": {},
            "champion_intervals": {},
        }
    )
    predictions = {"line": np.full(80, 0.1), "tree": SCORES}
    resampling = Resampling(confidence=0.95, draws=200, seed=1)
    return add_report_metrics(evaluation, names, (rows(TRUTH), predictions), (rows(TRUTH[:60]), champion), resampling)


def test_a_metric_is_added_for_all_models_with_intervals() -> None:
    evaluation = added(HITS)
    assert [one.test[HITS] for one in evaluation.candidates] == [0.5, 0.8]
    assert evaluation.champion is not None
    assert evaluation.champion.test == {HITS: 0.8}
    assert evaluation.dummy.test == {"roc_auc": 0.5, HITS: 0.5}
    interval, of_champion = evaluation.intervals[HITS], evaluation.champion_intervals[HITS]
    assert interval.low < 0.8 < interval.high
    assert of_champion.high - of_champion.low > interval.high - interval.low  # fewer rows
    assert evaluation.report_errors == {}


def test_a_champion_that_was_not_evaluated_has_no_further_metric() -> None:
    evaluation = added(HITS, champion=None)
    assert evaluation.champion is not None
    assert (evaluation.champion.test, evaluation.champion_intervals) == ({}, {})


@pytest.mark.parametrize(
    ("function", "error"),
    [
        ("fails", "ZeroDivisionError: <b>no</b>"),
        ("fails_later", "KeyError: 'late'"),
        ("text", "returns no number (got str)"),
        ("nothing", "gave no finite number"),
        ("missing", "missing"),
    ],
)
def test_a_metric_that_fails_leaves_the_evaluation_as_it_was(function: str, error: str) -> None:
    name = f"report_code:{function} higher labels"
    evaluation = added(name, HITS)
    assert list(evaluation.report_errors) == [name]
    assert error in evaluation.report_errors[name]
    assert evaluation.model_copy(update={"report_errors": {}}) == added(HITS)


def test_labels_are_those_at_the_threshold_of_the_model() -> None:
    evaluation = added(HITS, threshold=0.05)  # all rows are positive
    assert [one.test[HITS] for one in evaluation.candidates] == [0.5, 0.5]
    assert evaluation.champion is not None
    assert evaluation.champion.test == {HITS: 0.5}
    assert evaluation.intervals[HITS].high == 0.5
