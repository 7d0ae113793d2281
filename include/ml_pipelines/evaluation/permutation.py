r"""The gain over the dummy baseline that a model without information reaches by chance: a permutation test.

Predictions without information do not depend on the labels of the test rows. Every permutation of these labels is then
as likely as the observed one. So the observed gain exceeds the :math:`r`-th largest of :math:`N` gains with permuted
labels with a probability of at most :math:`r/(N+1)`. This is exact for any metric, number of rows and share of classes.
See Phipson and Smyth 2010, https://doi.org/10.2202/1544-6115.1585.

It assumes that test rows are exchangeable, which rows of a time series are not. Rows of groups are permuted by group:
the labels of a group stay together and in their order. This is exact for groups of one size, and approximate otherwise.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_pipelines.evaluation.fast_metric import value_of
from ml_pipelines.evaluation.target_schema import TargetSchema
from ml_pipelines.spec.metric_table import Metric

__all__ = ["STREAM", "chance_gain", "permuted_values"]

Array = NDArray[Any]

PERMUTED_CELLS = 4_000_000  # rows times permutations, which bounds the time
MAX_RANK = 25  # 999 permutations for a tail of 2.5 %
STREAM = 5  # of random numbers; the schemes of the bootstrap use lower ones


def chance_gain(
    target: TargetSchema,
    truth: Array,
    predictions: Array,
    metric: Metric,
    *,
    dummy: float,
    tail: float,
    seed: int,
    clusters: Array | None = None,
) -> float:
    """Return the gain over the dummy baseline that a model without information exceeds with a small probability.

    Args:
        target: task and labels.
        truth: of the test rows, shape (rows,).
        predictions: of the model, shape (rows,) or (rows, labels).
        metric: the primary metric.
        dummy: metric of the dummy baseline. It is constant, so permuted labels do not change it.
        tail: largest probability that chance exceeds the result.
        seed: of the permutations.
        clusters: number of the group of each row, from 0; None if the rows are exchangeable.
    """
    chances = math.ceil(1 / tail - 1e-9)  # 1 in so many
    rank = min(max(PERMUTED_CELLS // (chances * len(truth)), 1), MAX_RANK)
    rng = np.random.default_rng([seed, STREAM])
    if clusters is not None:
        order = np.argsort(clusters, kind="stable")
        truth, predictions, clusters = truth[order], predictions[order], clusters[order]
    values = permuted_values(target, truth, predictions, metric, rank * chances - 1, rng, clusters)
    gains = values - dummy if metric.greater_is_better else dummy - values
    # A permutation that does not define the metric counts against the model.
    return float(np.partition(np.nan_to_num(gains, nan=np.inf), -rank)[-rank])


def permuted_values(
    target: TargetSchema,
    truth: Array,
    predictions: Array,
    metric: Metric,
    draws: int,
    rng: np.random.Generator,
    clusters: Array | None = None,
) -> Array:
    """Return the metric for random permutations of the labels, shape (draws,); NaN where it is undefined.

    With ascending clusters, whole clusters of labels are permuted.
    """
    blocks = None if clusters is None else np.split(truth, np.flatnonzero(np.diff(clusters)) + 1)
    permuted = (_permuted(truth, blocks, rng) for _ in range(draws))
    return np.array([value_of(target, labels, predictions, metric) for labels in permuted])


def _permuted(truth: Array, blocks: list[Array] | None, rng: np.random.Generator) -> Array:
    if blocks is None:
        return rng.permutation(truth)
    return np.concatenate([blocks[index] for index in rng.permutation(len(blocks))])
