from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_pipelines.evaluation import cluster_schemes
from ml_pipelines.evaluation.bootstrap import bootstrap_metrics, percentile_interval
from ml_pipelines.evaluation.permutation import permuted_values
from ml_pipelines.evaluation.resampling_schemes import Sample
from ml_pipelines.evaluation.target_schema import TargetSchema
from ml_pipelines.spec.metric_table import METRICS, metrics_of

BINARY = TargetSchema("classification", (0, 1), 1)
THREE = TargetSchema("classification", ("a", "b", "c"))
REGRESSION = TargetSchema("regression")


def grouped(target: TargetSchema, groups: int, seed: int) -> tuple[Any, Any, Any]:
    """Truth, predictions and clusters: groups of one to five rows in a random order."""
    rng = np.random.default_rng(seed)
    clusters = rng.permutation(np.repeat(np.arange(groups), rng.integers(1, 6, groups)))
    rows = len(clusters)
    if target is REGRESSION:
        return rng.normal(size=rows), rng.normal(size=rows), clusters
    truth = rng.permutation(np.arange(rows) % len(target.classes))
    scores = rng.random(rows).round(1) if target.binary else rng.dirichlet(np.ones(3), rows)
    return truth, scores, clusters


@settings(deadline=None, max_examples=20)
@given(target=st.sampled_from([BINARY, THREE, REGRESSION]), groups=st.integers(6, 25), seed=st.integers(0, 999))
def test_a_draw_has_the_metrics_of_the_scorers_on_the_rows_of_the_drawn_groups(
    target: TargetSchema, groups: int, seed: int
) -> None:
    truth, predictions, clusters = grouped(target, groups, seed)
    metrics = [row for row in metrics_of(target.task) if target.binary or not row.binary_only]
    names = [metric.name for metric in metrics]
    drawn = bootstrap_metrics(
        target, truth, {"model": predictions}, draws=12, seed=seed, metrics=names, clusters=clusters
    )
    sample = Sample.of(target, truth, {"model": predictions}, clusters)
    rng = np.random.default_rng([seed, cluster_schemes.STREAM])
    expected = cluster_schemes._resample_rows(sample, metrics, 12, rng)
    for name in names:
        defined = np.isfinite(expected[name]["model"])
        assert drawn[name]["model"][defined] == pytest.approx(expected[name]["model"][defined]), name


def test_the_interval_of_groups_is_wider_if_the_rows_of_a_group_are_alike() -> None:
    rng = np.random.default_rng(1)
    clusters = np.repeat(np.arange(30), 10)
    truth, predictions = (rng.normal(size=30)[clusters] for _ in range(2))
    widths = {}
    for name, of_rows in (("rows", None), ("groups", clusters)):
        drawn = bootstrap_metrics(
            REGRESSION, truth, {"model": predictions}, draws=400, seed=1, metrics=["mae"], clusters=of_rows
        )
        interval = percentile_interval(drawn["mae"]["model"], 0.95)
        assert interval is not None
        widths[name] = interval.high - interval.low
    assert widths["groups"] == pytest.approx(widths["rows"] * 10**0.5, rel=0.15)


def test_permutations_keep_the_labels_of_a_group_together() -> None:
    clusters = np.repeat(np.arange(8), 4)
    truth = np.repeat(np.arange(8) % 2, 4)
    scores = np.repeat(np.arange(8) % 2, 4) * 0.5
    rng = np.random.default_rng(3)
    values = permuted_values(BINARY, truth, scores, METRICS["accuracy"], 200, rng, clusters)
    assert {round(value * 8, 9) % 2 for value in values} == {0}  # whole groups change places, in pairs
    assert values.max() == 1
