"""How much a metric might have been otherwise on other rows of the same kind: the paired, stratified bootstrap.

All models are measured on the same resamples, so what they have in common cancels out in the difference of two. Rows
are resampled within each class, so a resample has as many rows of every class as the holdout.

Three ways, by what a metric is made of; none of them copies or sorts rows for a draw:

* Metrics of the predicted class (accuracy, F1, ...) depend on how many rows of a class are predicted as what by which
  model. These counts are drawn directly, from a multinomial distribution, whatever the number of rows.
* Means over rows (log loss, Brier, RMSE, MAE, R2) and metrics of the ranking (ROC-AUC, average precision) are computed
  with weights: how often each row was drawn. A ranking is sorted once.
* The median error has no such form. It is computed on the rows themselves, with fewer draws.

A class of `EXACT_ROWS` rows or less is drawn with replacement, as the textbook says. In a larger one each row's weight
is drawn from a Poisson distribution of mean 1, and all are scaled to the size of the class: the same in the limit,
without a hundred thousand random row numbers to count for each draw.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_pipelines.contracts import Interval
from ml_pipelines.metrics import metrics_of
from ml_pipelines.scoring import THRESHOLD, Metrics, Problem, measure

__all__ = ["GENERIC_DRAWS", "interval", "resampled"]

Array = NDArray[Any]
Draws = dict[str, dict[str, Array]]
Estimate = Callable[[Array], dict[str, Array]]

EXACT_ROWS = 1000
GENERIC_DRAWS = 500  # at most, of what can only be computed on the rows themselves
BLOCK_CELLS = 2**17  # rows times draws that are held at once: 1 MB an array, which stays in the processor's cache
_COUNTED = frozenset({"accuracy", "balanced_accuracy", "f1", "precision", "recall"})
_RANKED = ("roc_auc", "average_precision")
_MEANS = ("log_loss", "brier", "r2", "rmse", "mae")


def resampled(
    problem: Problem,
    truth: Array,
    scores: Mapping[str, Array],
    *,
    draws: int,
    seed: int,
    only: Iterable[str] | None = None,
    measured: Mapping[str, Metrics] | None = None,
) -> Draws:
    """The metrics of several models on the same resamples of the rows.

    Args:
        problem: what is predicted.
        truth: of :func:`ml_pipelines.scoring.encode`, shape (rows,).
        scores: of each model, as :func:`ml_pipelines.scoring.measure` takes them.
        draws: how many resamples.
        seed: the same seed gives the same resamples.
        only: the metrics that are wanted; all of the task if not told.
        measured: of each model on all rows, by :func:`ml_pipelines.scoring.measure`, if that is known.

    Returns:
        Metric -> model -> values, shape (draws,); NaN in a draw that can't tell. A metric that all rows together can't
        tell is left out. The median error has at most `GENERIC_DRAWS` values.
    """
    measured = measured or {name: measure(problem, truth, score) for name, score in scores.items()}
    names = [metric.name for metric in metrics_of(problem.task)]
    known = [name for name in names if all(told[name] is not None for told in measured.values())]
    wanted = [name for name in known if only is None or name in {*only}]
    order, bounds = _strata(problem, truth)
    truth, scores = truth[order], {name: score[order] for name, score in scores.items()}
    found: Draws = {}
    if _COUNTED & {*wanted}:
        found |= _counted(problem, truth, bounds, scores, draws, np.random.default_rng([seed, 0]))
    estimates = {name: _estimates(problem, truth, score, wanted) for name, score in scores.items()}
    found |= _weighted(estimates, bounds, draws, np.random.default_rng([seed, 1]))
    for name in wanted:
        if name not in found:
            rng = np.random.default_rng([seed, 2])
            found[name] = _generic(problem, truth, bounds, scores, name, min(draws, GENERIC_DRAWS), rng)
    return {name: found[name] for name in wanted}


def interval(values: Array, confidence: float) -> Interval | None:
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


def _strata(problem: Problem, truth: Array) -> tuple[Array, list[tuple[int, int]]]:
    """Rows in the order of their class, and where each class begins and ends; a regression is a single class."""
    if not problem.classes:
        return np.arange(len(truth)), [(0, len(truth))]
    order = np.argsort(truth, kind="stable")
    edges = [0, *(np.flatnonzero(np.diff(truth[order])) + 1).tolist(), len(truth)]
    return order, list(itertools.pairwise(edges))


# --- counts


def _counted(
    problem: Problem,
    truth: Array,
    bounds: list[tuple[int, int]],
    scores: Mapping[str, Array],
    draws: int,
    rng: np.random.Generator,
) -> Draws:
    """What depends on how many rows of each class the models predict as this or that, together."""
    predicted = np.stack([_predicted(problem, score) for score in scores.values()])
    labels = 2 if problem.binary else len(problem.labels)
    size = (len(scores), draws, labels)
    right, answers, truths = np.zeros(size), np.zeros(size), np.bincount(truth, minlength=labels)
    for first, last in bounds:
        cells, rows = np.unique(predicted[:, first:last], axis=1, return_counts=True)
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
    found = [_of_counts(problem, right[model], answers[model], truths) for model in range(len(scores))]
    return {metric: {name: each[metric] for name, each in zip(scores, found, strict=True)} for metric in found[0]}


def _predicted(problem: Problem, score: Array) -> Array:
    return (score >= THRESHOLD).astype(np.int64) if problem.binary else score.argmax(axis=1)


def _of_counts(problem: Problem, right: Array, answers: Array, truths: Array) -> dict[str, Array]:
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
    if problem.binary:
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
    for weights in _weights(bounds, draws, rng):
        for name, each in estimates.items():
            for estimate in each:
                for metric, values in estimate(weights).items():
                    found.setdefault(metric, {}).setdefault(name, []).append(values)
    return {metric: {name: np.concatenate(parts) for name, parts in each.items()} for metric, each in found.items()}


def _weights(bounds: list[tuple[int, int]], draws: int, rng: np.random.Generator) -> Iterator[Array]:
    """Blocks of weights, shape (some draws, rows); those of a class add up to its number of rows in every draw."""
    rows = bounds[-1][1]
    step = max(1, BLOCK_CELLS // rows)
    for at in range(0, draws, step):
        block = np.empty((min(step, draws - at), rows))
        for first, last in bounds:
            drawn = _drawn if last - first <= EXACT_ROWS else _poisson
            block[:, first:last] = drawn(len(block), last - first, rng)
        yield block


def _drawn(draws: int, rows: int, rng: np.random.Generator) -> Array:
    """How often each row occurs among as many that are drawn with replacement."""
    numbers = rng.integers(0, rows, (draws, rows)) + rows * np.arange(draws)[:, None]
    return np.bincount(numbers.ravel(), minlength=draws * rows).reshape(draws, rows)


def _poisson(draws: int, rows: int, rng: np.random.Generator) -> Array:
    weights: Array = _poisson_table()[rng.integers(0, 2**16, (draws, rows), dtype=np.uint16)].astype(np.float64)
    weights *= rows / weights.sum(axis=1, keepdims=True)
    return weights


@cache
def _poisson_table() -> Array:
    """A Poisson distribution of mean 1 as 65536 equally likely values: several times as fast as to draw from it."""
    chances = [math.exp(-1) / math.factorial(times) for times in range(12)]
    return np.searchsorted(np.cumsum(chances), (np.arange(2**16) + 0.5) / 2**16).astype(np.uint8)


def _estimates(problem: Problem, truth: Array, score: Array, wanted: list[str]) -> list[Estimate]:
    """Functions from weights, shape (draws, rows), to metrics, shape (draws,)."""
    found: list[Estimate] = []
    if any(name in wanted for name in _RANKED):
        ranked = [name for name in _RANKED if name in wanted]
        found.append(_one_against_the_rest(problem, truth, score, ranked))
    if any(name in wanted for name in _MEANS):
        found.append(_means(problem, truth, score))
    return found


def _one_against_the_rest(problem: Problem, truth: Array, score: Array, ranked: list[str]) -> Estimate:
    if problem.binary:
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


def _means(problem: Problem, truth: Array, score: Array) -> Estimate:
    """Metrics that are made of sums over rows."""
    rows = len(truth)
    if not problem.classes:
        centred = truth - truth.mean()
        columns = np.stack([(truth - score) ** 2, np.abs(truth - score), centred, centred**2], axis=1)

        def of_errors(weights: Array) -> dict[str, Array]:
            squares, absolute, linear, spread = (weights @ columns).T
            variation = spread - linear**2 / rows
            unexplained = np.divide(squares, variation, out=np.full_like(squares, np.nan), where=variation > 0)
            return {"r2": 1 - unexplained, "rmse": np.sqrt(squares / rows), "mae": absolute / rows}

        return of_errors
    losses = _losses(problem, truth, score)
    columns = np.stack([*losses.values()], axis=1)
    return lambda weights: dict(zip(losses, (weights @ columns).T / rows, strict=True))


def _losses(problem: Problem, truth: Array, score: Array) -> dict[str, Array]:
    """Of each row."""
    if problem.binary:
        told = np.where(truth == 1, score, 1 - score)
        return {"log_loss": _surprise(told), "brier": (score - truth) ** 2}
    shares = score / score.sum(axis=1, keepdims=True)
    return {"log_loss": _surprise(shares[np.arange(len(truth)), truth])}


def _surprise(probability: Array) -> Array:
    least = np.finfo(np.float64).eps  # as scikit-learn does
    surprise: Array = -np.log(np.clip(probability, least, 1 - least))
    return surprise


# --- rows


def _generic(
    problem: Problem,
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
            value = measure(problem, truth[rows], score[rows])[metric]
            found[name][draw] = np.nan if value is None else value
    return found
