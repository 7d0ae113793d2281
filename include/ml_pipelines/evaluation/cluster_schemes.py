"""The cluster bootstrap, which draws whole clusters of rows with replacement.

A cluster is a group of rows that are not independent, such as the visits of a patient. A bootstrap of single rows
treats them as independent, and its intervals are too narrow. See Field and Welsh 2007, *Bootstrapping clustered data*,
https://doi.org/10.1111/j.1467-9868.2007.00593.x. Clusters differ in size, and one cluster can contain several classes.
So neither the number of rows nor the share of a class is the same in all draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_pipelines.evaluation.confusion_metrics import LabelCounts
from ml_pipelines.evaluation.resampling import BLOCK_CELLS, multinomial_weights
from ml_pipelines.evaluation.resampling_schemes import (
    GENERIC_DRAWS,
    LINEAR_ROWS,
    Draws,
    Sample,
    Scheme,
    statistic_of,
    weighted_estimator,
)
from ml_pipelines.evaluation.scorers import compute_metrics
from ml_pipelines.evaluation.target_schema import predicted_labels
from ml_pipelines.spec.metric_table import Metric

__all__ = ["cluster_scheme"]

Array = NDArray[Any]
STREAM = 6  # stream of random numbers; equal for all metrics, so that all use the same draws


def cluster_scheme(metric: Metric, sample: Sample) -> Scheme:
    """Return how to compute a metric on resamples of whole clusters.

    Args:
        metric: metric to compute. A metric with its own function is computed by its scorer.
        sample: rows with their clusters.
    """
    many = GENERIC_DRAWS if len(sample.truth) > LINEAR_ROWS else float("inf")
    if metric.resampling == "confusion":
        return Scheme(_resample_confusion, STREAM, many)
    if metric.resampling in ("ranking", "row_sums"):
        return Scheme(_resample_weights, STREAM, many)
    return Scheme(_resample_rows, STREAM, GENERIC_DRAWS)


def _counts(sample: Sample, draws: int, rng: np.random.Generator) -> Iterator[Array]:
    """Yield blocks of counts: how often each row occurs in a draw, shape (draws of the block, rows)."""
    clusters = sample.clusters
    assert clusters is not None
    step = max(1, BLOCK_CELLS // len(clusters))
    for start in range(0, draws, step):
        drawn = multinomial_weights(min(step, draws - start), int(clusters.max()) + 1, rng)
        yield drawn[:, clusters].astype(np.float64)


def _resample_weights(sample: Sample, metrics: Sequence[Metric], draws: int, rng: np.random.Generator) -> Draws:
    estimators = {model: weighted_estimator(sample, model, metrics) for model in sample.predictions}
    values: dict[str, dict[str, list[Array]]] = {row.name: {model: [] for model in estimators} for row in metrics}
    for counts in _counts(sample, draws, rng):
        # The statistics expect weights that sum to the number of rows.
        weights = counts * (counts.shape[1] / counts.sum(axis=1, keepdims=True))
        for model, estimate in estimators.items():
            for name, block in estimate(weights).items():
                values[name][model].append(block)
    return {
        name: {model: np.concatenate(blocks) for model, blocks in by_model.items()} for name, by_model in values.items()
    }


def _resample_confusion(sample: Sample, metrics: Sequence[Metric], draws: int, rng: np.random.Generator) -> Draws:
    labels = np.arange(2 if sample.target.binary else len(sample.target.labels))
    actual = (sample.truth[:, None] == labels).astype(np.float64)
    predicted = {
        model: (predicted_labels(sample.target.of_model(model), values)[:, None] == labels).astype(np.float64)
        for model, values in sample.predictions.items()
    }
    blocks: dict[str, list[tuple[Array, ...]]] = {model: [] for model in predicted}
    for counts in _counts(sample, draws, rng):
        of_labels = counts @ actual
        for model, answers in predicted.items():
            blocks[model].append((counts @ (answers * actual), counts @ answers, of_labels))
    totals = {model: _label_counts(parts, binary=sample.target.binary) for model, parts in blocks.items()}
    return {
        metric.name: {model: statistic_of(metric)(counts) for model, counts in totals.items()} for metric in metrics
    }


def _label_counts(blocks: list[tuple[Array, ...]], *, binary: bool) -> LabelCounts:
    correct, predicted, actual = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return LabelCounts(correct, predicted, actual, binary)


def _resample_rows(sample: Sample, metrics: Sequence[Metric], draws: int, rng: np.random.Generator) -> Draws:
    values: Draws = {metric.name: {model: np.full(draws, np.nan) for model in sample.predictions} for metric in metrics}
    drawn = (counts for block in _counts(sample, draws, rng) for counts in block)
    for draw, counts in enumerate(drawn):
        rows = np.repeat(np.arange(len(counts)), counts.astype(np.int64))
        for model, predictions in sample.predictions.items():
            target = sample.target.of_model(model)
            for name, value in compute_metrics(target, sample.truth[rows], predictions[rows], metrics).items():
                values[name][model][draw] = np.nan if value is None else value
    return values
