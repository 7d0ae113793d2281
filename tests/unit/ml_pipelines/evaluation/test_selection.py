from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_pipelines.evaluation.evaluation_rows import Part
from ml_pipelines.evaluation.records import Selection
from ml_pipelines.evaluation.scorers import compute_metrics
from ml_pipelines.evaluation.selection import select_candidate
from ml_pipelines.evaluation.target_schema import TargetSchema

BINARY = TargetSchema("classification", (0, 1), 1)
REGRESSION = TargetSchema("regression")


def select(truth: Any, metric: str, clusters: Any = None, **predictions: Any) -> Selection:
    target = REGRESSION if metric == "mae" else BINARY
    measured = {name: compute_metrics(target, truth, values) for name, values in predictions.items()}
    part = Part("validation", pl.LazyFrame(), truth, clusters)
    return select_candidate(target, part, predictions, measured, metric=metric, seed=1)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 9999), metric=st.sampled_from(["roc_auc", "log_loss", "mae"]), count=st.integers(1, 4))
def test_the_winner_is_the_first_candidate_within_one_standard_error_of_the_best(
    seed: int, metric: str, count: int
) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.arange(60) % 2)
    predictions = {f"c{index}": np.clip(truth * 0.4 + rng.random(60) * 0.6, 0.01, 0.99) for index in range(count)}
    selection = select(truth, metric, **predictions)
    assert [score.candidate for score in selection.scores] == [*predictions]
    gaps = {score.candidate: (score.gap, score.gap_error) for score in selection.scores}
    assert gaps[selection.best] == (0, 0)
    assert min(gap for gap, _ in gaps.values()) == 0
    assert selection.winner == next(name for name, (gap, error) in gaps.items() if gap <= error)


def test_a_simpler_candidate_wins_only_if_it_is_close() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=400)
    near, far, best = (truth + rng.normal(size=400) * scale for scale in (1.01, 2, 1))
    assert select(truth, "mae", near=near, best=best).winner == "near"
    clear = select(truth, "mae", far=far, best=best)
    assert (clear.winner, clear.best) == ("best", "best")
    assert "far" not in clear.reason
    assert select(truth, "mae", best=best, near=near).winner == "best"


def test_equal_candidates_have_no_gap_and_the_first_wins() -> None:
    truth = np.arange(30) % 2
    selection = select(truth, "roc_auc", first=truth * 0.5, second=truth * 0.5)
    assert (selection.winner, selection.best) == ("first", "first")
    assert [(score.gap, score.gap_error) for score in selection.scores] == [(0, 0), (0, 0)]


def test_an_undefined_metric_selects_the_first_candidate() -> None:
    selection = select(np.ones(5, dtype=np.int64), "roc_auc", first=np.full(5, 0.2), second=np.full(5, 0.3))
    assert selection.winner == "first"
    assert [score.score for score in selection.scores] == [None, None]
    assert "not defined" in selection.reason


def test_the_standard_error_of_groups_is_larger() -> None:
    rng = np.random.default_rng(2)
    clusters = np.repeat(np.arange(20), 10)
    truth, first, second = (rng.normal(size=20)[clusters] for _ in range(3))
    rows, groups = (select(truth, "mae", of_rows, first=first, second=second).scores[0] for of_rows in (None, clusters))
    assert rows.score == groups.score
    assert rows.standard_error is not None
    assert groups.standard_error == pytest.approx(rows.standard_error * 10**0.5, rel=0.3)
