"""How much a metric might have been otherwise on other rows of the same kind: the paired, stratified bootstrap.

All models are measured on the same resamples, so what they have in common cancels out in the difference of two. Rows
are resampled within each class, so a resample has as many rows of every class as the holdout.

By what a metric is made of and how many rows there are:

* Metrics of the predicted class (accuracy, F1, ...) depend on how many rows of a class are predicted as what by which
  model. These counts are drawn directly, from a multinomial distribution, whatever the number of rows.
* Means over rows (log loss, Brier, RMSE, MAE, R2) and metrics of the ranking (ROC-AUC, average precision) are computed
  with weights: how often each row was drawn. A ranking is sorted once.
* Of more than `LINEAR_ROWS` rows these are drawn as sums over rows, to which each row adds its influence
  (:mod:`ml_pipelines.evaluation.influence`): the rows of the greatest influence by their weights, and all
  others together from the normal distribution that their sum has by the central limit theorem. This is the linear
  bootstrap (Efron 1982); its error is below the noise of 2000 draws.
* The median error has no such form. It is computed on the rows themselves, with fewer draws; of many rows, on those
  that may be the median.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_pipelines.contracts import Interval
from ml_pipelines.evaluation.influence import RANKING_METRICS, influence_values, linear_resamples
from ml_pipelines.evaluation.resampling import BLOCK_CELLS, EXACT_ROWS, weight_blocks
from ml_pipelines.evaluation.scorers import THRESHOLD, MetricValues, TargetSchema, compute_metrics
from ml_pipelines.spec.metrics import metrics_of

__all__ = ["GENERIC_DRAWS", "bootstrap_metrics", "percentile_interval"]

Array = NDArray[Any]
Draws = dict[str, dict[str, Array]]
Estimate = Callable[[Array], dict[str, Array]]
Sums = tuple[Array, Estimate]  # columns, shape (rows, sums), and metrics from their sums, shape (draws, sums)

LINEAR_ROWS = 20_000  # from here on a metric moves in a straight line as far as the draws go
GENERIC_DRAWS = 500  # at most, of what can only be computed on the rows themselves
_COUNTED = frozenset({"accuracy", "balanced_accuracy", "f1", "precision", "recall"})
_MEANS = ("log_loss", "brier", "r2", "rmse", "mae")


def bootstrap_metrics(
    target: TargetSchema,
    truth: Array,
    scores: Mapping[str, Array],
    *,
    draws: int,
    seed: int,
    only: Iterable[str] | None = None,
    measured: Mapping[str, MetricValues] | None = None,
) -> Draws:
    """The metrics of several models on the same resamples of the rows.

    Args:
        target: kind and labels of what is predicted.
        truth: of :func:`ml_pipelines.evaluation.scorers.encode_labels`, shape (rows,).
        scores: of each model, as :func:`ml_pipelines.evaluation.scorers.compute_metrics` takes them.
        draws: how many resamples.
        seed: the same seed gives the same resamples.
        only: the metrics that are wanted; all of the task if not told.
        measured: metrics of each model on all rows; computed if None.

    Returns:
        Metric -> model -> values, shape (draws,); NaN in a draw that can't tell. A metric that all rows together can't
        tell is left out. The median error has at most `GENERIC_DRAWS` values.
    """
    measured = measured or {name: compute_metrics(target, truth, score) for name, score in scores.items()}
    names = [metric.name for metric in metrics_of(target.task)]
    known = [name for name in names if all(told[name] is not None for told in measured.values())]
    wanted = [name for name in known if only is None or name in {*only}]
    order, bounds = _strata(target, truth)
    truth, scores = truth[order], {name: score[order] for name, score in scores.items()}
    found: Draws = {}
    if _COUNTED & {*wanted}:
        found |= _counted(target, truth, bounds, scores, draws, np.random.default_rng([seed, 0]))
    linear = [name for name in wanted if _is_linear(name, bounds)]
    if linear:
        found |= _linear(target, truth, bounds, scores, linear, draws, np.random.default_rng([seed, 3]))
    curved = [name for name in wanted if name not in linear]
    estimates = {name: _estimates(target, truth, score, curved) for name, score in scores.items()}
    found |= _weighted(estimates, bounds, draws, np.random.default_rng([seed, 1]))
    for name in wanted:
        if name not in found:
            rng, fewer = np.random.default_rng([seed, 2]), min(draws, GENERIC_DRAWS)
            if len(truth) > LINEAR_ROWS:
                found[name] = _median_error(truth, scores, fewer, rng)
            else:
                found[name] = _generic(target, truth, bounds, scores, name, fewer, rng)
    return {name: found[name] for name in wanted}


def percentile_interval(values: Array, confidence: float) -> Interval | None:
    """The percentile interval: the middle `confidence` of the draws. None if no draw could tell.

    Unlike one made of a standard error it never leaves the range of the metric, and unlike a corrected one it needs no
    leave-one-out values, a computation a row. How well its error rates hold is measured in
    `tests/benchmarks/decision.py`.
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        return None
    tail = (1 - confidence) / 2
    # Rounded, as the last digits of a sum depend on the processor, and results are compared by their bytes.
    low, high = (float(f"{bound:.9g}") for bound in np.quantile(finite, [tail, 1 - tail]))
    return Interval(low=low, high=high, confidence=confidence)


def _strata(target: TargetSchema, truth: Array) -> tuple[Array, list[tuple[int, int]]]:
    """Rows in the order of their class, and where each class begins and ends; a regression is a single class."""
    if not target.classes:
        return np.arange(len(truth)), [(0, len(truth))]
    order = np.argsort(truth, kind="stable")
    edges = [0, *(np.flatnonzero(np.diff(truth[order])) + 1).tolist(), len(truth)]
    return order, list(itertools.pairwise(edges))


# --- counts


def _counted(
    target: TargetSchema,
    truth: Array,
    bounds: list[tuple[int, int]],
    scores: Mapping[str, Array],
    draws: int,
    rng: np.random.Generator,
) -> Draws:
    """What depends on how many rows of each class the models predict as this or that, together."""
    predicted = np.stack([_predicted(target, score) for score in scores.values()])
    labels = 2 if target.binary else len(target.labels)
    size = (len(scores), draws, labels)
    right, answers, truths = np.zeros(size), np.zeros(size), np.bincount(truth, minlength=labels)
    for first, last in bounds:
        cells, rows = _cells(predicted[:, first:last])
        step = max(1, BLOCK_CELLS // len(rows))
        for at in range(0, draws, step):
            block = slice(at, min(at + step, draws))
            counts = rng.multinomial(last - first, rows / (last - first), size=block.stop - at)
            for model in range(len(scores)):
                for label in np.unique(cells[model]):
                    drawn = counts[:, cells[model] == label].sum(axis=1)
                    answers[model, block, label] += drawn
                    if label == truth[first]:
                        right[model, block, label] += drawn
    found = [_of_counts(target, right[model], answers[model], truths) for model in range(len(scores))]
    return {metric: {name: each[metric] for name, each in zip(scores, found, strict=True)} for metric in found[0]}


def _predicted(target: TargetSchema, score: Array) -> Array:
    return (score >= THRESHOLD).astype(np.int64) if target.binary else score.argmax(axis=1)


def _of_counts(target: TargetSchema, right: Array, answers: Array, truths: Array) -> dict[str, Array]:
    """Metrics from the right answers and all answers, shape (draws, labels), and the true labels, shape (labels,)."""
    per_label = {
        "recall": _ratio(right, truths + np.zeros_like(right)),
        "precision": _ratio(right, answers),
        "f1": _ratio(2 * right, answers + truths),
    }
    overall = {
        "accuracy": right.sum(axis=1) / truths.sum(),
        "balanced_accuracy": per_label["recall"].sum(axis=1) / (truths > 0).sum(),
    }
    if target.binary:
        return overall | {name: values[:, 1] for name, values in per_label.items()}
    occurring = (answers + truths > 0).sum(axis=1)
    return overall | {name: values.sum(axis=1) / occurring for name, values in per_label.items()}


def _ratio(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


# --- weights


def _weighted(
    estimates: dict[str, list[Estimate]], bounds: list[tuple[int, int]], draws: int, rng: np.random.Generator
) -> Draws:
    """What is computed from how often each row was drawn, block by block."""
    if not any(estimates.values()):
        return {}
    found: dict[str, dict[str, list[Array]]] = {}
    for weights in weight_blocks(bounds, draws, rng):
        for name, each in estimates.items():
            for estimate in each:
                for metric, values in estimate(weights).items():
                    found.setdefault(metric, {}).setdefault(name, []).append(values)
    return {metric: {name: np.concatenate(parts) for name, parts in each.items()} for metric, each in found.items()}


def _estimates(target: TargetSchema, truth: Array, score: Array, wanted: list[str]) -> list[Estimate]:
    """Functions from weights, shape (draws, rows), to metrics, shape (draws,)."""
    found: list[Estimate] = []
    if any(name in wanted for name in RANKING_METRICS):
        ranked = [name for name in RANKING_METRICS if name in wanted]
        found.append(_one_against_the_rest(target, truth, score, ranked))
    if any(name in wanted for name in _MEANS):
        columns, of_sums = _means(target, truth, score)
        found.append(lambda weights: of_sums(weights @ columns))
    return found


def _one_against_the_rest(target: TargetSchema, truth: Array, score: Array, ranked: list[str]) -> Estimate:
    if target.binary:
        return _ranking(truth == 1, score, ranked)
    each = [_ranking(truth == label, score[:, label], ranked) for label in np.unique(truth)]

    def estimate(weights: Array) -> dict[str, Array]:
        values = [one(weights) for one in each]
        return {name: np.mean([value[name] for value in values], axis=0) for name in ranked}

    return estimate


def _ranking(hit: Array, score: Array, ranked: list[str]) -> Estimate:
    """ROC-AUC and average precision, from the best score down: of each hit, what other rows are above it."""
    hits, others = (rows[np.argsort(-score[rows], kind="stable")] for rows in map(np.flatnonzero, (hit, ~hit)))
    falling, theirs = -score[hits], -score[others]
    above = np.searchsorted(theirs, falling, side="left")
    upto = np.searchsorted(theirs, falling, side="right")  # with those of the same score
    same = np.searchsorted(falling, falling, side="right") - 1  # the last hit of the same score
    tied = bool((above != upto).any())

    def estimate(weights: Array) -> dict[str, Array]:
        weight = weights.take(hits, axis=1)
        false = np.zeros((len(weights), len(others) + 1))
        np.cumsum(weights.take(others, axis=1), axis=1, out=false[:, 1:])
        false_upto = false.take(upto, axis=1)
        found = {}
        if "roc_auc" in ranked:
            beaten_by = (false_upto + false.take(above, axis=1)) / 2 if tied else false_upto
            found["roc_auc"] = 1 - np.einsum("ij,ij->i", weight, beaten_by) / (len(hits) * len(others))
        if "average_precision" in ranked:
            true = np.cumsum(weight, axis=1).take(same, axis=1)
            precision = np.divide(true, true + false_upto, out=np.zeros_like(true), where=true > 0)
            found["average_precision"] = np.einsum("ij,ij->i", weight, precision) / len(hits)
        return found

    return estimate


def _means(target: TargetSchema, truth: Array, score: Array) -> Sums:
    """Metrics that are made of sums over rows."""
    rows = len(truth)
    if not target.classes:
        centred = truth - truth.mean()
        columns = np.stack([(truth - score) ** 2, np.abs(truth - score), centred, centred**2], axis=1)

        def of_errors(sums: Array) -> dict[str, Array]:
            squares, absolute, linear, spread = sums.T
            squares, absolute = np.maximum(squares, 0), np.maximum(absolute, 0)
            variation = spread - linear**2 / rows
            unexplained = np.divide(squares, variation, out=np.full_like(squares, np.nan), where=variation > 0)
            return {"r2": 1 - unexplained, "rmse": np.sqrt(squares / rows), "mae": absolute / rows}

        return columns, of_errors
    losses = _losses(target, truth, score)
    columns = np.stack([*losses.values()], axis=1)
    return columns, lambda sums: dict(zip(losses, np.maximum(sums, 0).T / rows, strict=True))


def _losses(target: TargetSchema, truth: Array, score: Array) -> dict[str, Array]:
    """Of each row."""
    if target.binary:
        told = np.where(truth == 1, score, 1 - score)
        return {"log_loss": _surprise(told), "brier": (score - truth) ** 2}
    shares = score / score.sum(axis=1, keepdims=True)
    return {"log_loss": _surprise(shares[np.arange(len(truth)), truth])}


def _surprise(probability: Array) -> Array:
    least = np.finfo(np.float64).eps  # as scikit-learn does
    surprise: Array = -np.log(np.clip(probability, least, 1 - least))
    return surprise


# --- sums


def _is_linear(metric: str, bounds: list[tuple[int, int]]) -> bool:
    """Among few hits, the first of them bend average precision by more than a derivative tells."""
    if metric not in (*RANKING_METRICS, *_MEANS) or bounds[-1][1] <= LINEAR_ROWS:
        return False
    return metric != "average_precision" or min(last - first for first, last in bounds) > EXACT_ROWS


def _sums(target: TargetSchema, truth: Array, score: Array, wanted: list[str]) -> list[Sums]:
    found: list[Sums] = []
    if ranked := [name for name in RANKING_METRICS if name in wanted]:
        labels, columns = [1] if target.binary else np.unique(truth), np.zeros((len(truth), len(ranked)))
        for label in labels:
            columns += influence_values(truth == label, score if target.binary else score[:, label], ranked) / len(
                labels
            )
        # A normal distribution has no end, and a metric has.
        found.append((columns, lambda sums: dict(zip(ranked, np.clip(sums, 0, 1).T, strict=True))))
    if any(name in wanted for name in _MEANS):
        found.append(_means(target, truth, score))
    return found


def _linear(
    target: TargetSchema,
    truth: Array,
    bounds: list[tuple[int, int]],
    scores: Mapping[str, Array],
    wanted: list[str],
    draws: int,
    rng: np.random.Generator,
) -> Draws:
    """Sums of the first model and, of every other one, how far they are from the first's: 0 where the two are alike."""
    columns, metrics = [], {}
    for name, score in scores.items():
        parts = _sums(target, truth, score, wanted)
        columns += [np.concatenate([part for part, _ in parts], axis=1)]
        metrics[name] = [(part.shape[1], of_sums) for part, of_sums in parts]
    total = np.stack([of_model.sum(axis=0) for of_model in columns])
    for of_model in columns[1:]:
        of_model -= columns[0]
    moved = linear_resamples(columns, bounds, draws, rng)
    moved[1:] += moved[0]
    found: dict[str, dict[str, Array]] = {}
    for (name, parts), sums in zip(metrics.items(), moved + total[:, None], strict=True):
        ends = np.cumsum([count for count, _ in parts])
        for (count, of_sums), end in zip(parts, ends, strict=True):
            for metric, values in of_sums(sums[:, end - count : end]).items():
                found.setdefault(metric, {})[name] = values
    return found


# --- rows


def _median_error(truth: Array, scores: Mapping[str, Array], draws: int, rng: np.random.Generator) -> dict[str, Array]:
    """The rows that may become a median are drawn one by one, all others as how many are below and above.

    A draw's median is a row whose rank is n / 2, give or take sqrt(n) / 2. Eight of these are never left.
    """
    rows = len(truth)
    errors = np.stack([np.abs(truth - score) for score in scores.values()])
    edges = [rows // 2 - 4 * math.isqrt(rows), rows // 2 + 4 * math.isqrt(rows)]
    low, high = np.partition(errors, edges, axis=1)[:, edges, None].transpose(1, 0, 2)
    cells, sizes = _cells(np.clip(errors, low, high))
    counts = rng.multinomial(rows, sizes / rows, size=draws)
    found = {}
    for name, error in zip(scores, cells, strict=True):
        order = np.argsort(error, kind="stable")
        upto = np.cumsum(counts[:, order], axis=1)
        middle = [error[order][(upto <= rank).sum(axis=1)] for rank in ((rows - 1) // 2, rows // 2)]
        found[name] = np.mean(middle, axis=0)
    return found


def _cells(models: Array) -> tuple[Array, Array]:
    """The different columns and how many there are of each: `np.unique(models, axis=1)` without comparing records."""
    codes = np.zeros(models.shape[1], dtype=np.int64)
    for values in models:
        different, code = np.unique(values, return_inverse=True)
        codes = codes * len(different) + code
    _, first, counts = np.unique(codes, return_index=True, return_counts=True)
    return models[:, first], counts


def _generic(
    target: TargetSchema,
    truth: Array,
    bounds: list[tuple[int, int]],
    scores: Mapping[str, Array],
    metric: str,
    draws: int,
    rng: np.random.Generator,
) -> dict[str, Array]:
    """Any metric, computed on the rows of each resample."""
    found = {name: np.full(draws, np.nan) for name in scores}
    for draw in range(draws):
        rows = np.concatenate([rng.integers(first, last, last - first) for first, last in bounds])
        for name, score in scores.items():
            value = compute_metrics(target, truth[rows], score[rows])[metric]
            found[name][draw] = np.nan if value is None else value
    return found
