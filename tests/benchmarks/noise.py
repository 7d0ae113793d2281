"""How often the gate promotes noise, and how often a planted signal.

Run it: `python -m tests.benchmarks.noise [data sets]`. It writes a table into docs/explanation/decision.md.

The verdict of a first model depends on the labels and the predictions of the test rows only. A model without
information has predictions that are independent of these labels. So most cases draw such
predictions. The `trained` cases fit models to noise, and select the best one on validation rows.

The lower bound of the difference is below the difference, and below its excess over chance. So the gate runs only on
data sets whose difference exceeds both, which changes no verdict. Chance has 39 permutations instead of up to 999: its
rate is the same.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any
from unittest import mock

import numpy as np
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from ml_pipelines.contracts import Decision
from ml_pipelines.evaluation import permutation
from ml_pipelines.evaluation.comparison import compare_with_dummy
from ml_pipelines.evaluation.dummy import constant_predictions, fit_dummy
from ml_pipelines.evaluation.fast_metric import value_of
from ml_pipelines.evaluation.scorers import compute_metrics
from ml_pipelines.evaluation.target_schema import TargetSchema, constant_part
from ml_pipelines.evaluation.threshold import tune_threshold
from ml_pipelines.promotion.gate import apply_gate
from ml_pipelines.spec.difference_limits import as_share
from ml_pipelines.spec.gate import Gate
from ml_pipelines.spec.metric_table import Metric, metrics_of
from ml_pipelines.spec.threshold import Threshold

BINARY = TargetSchema("classification", (0, 1), 1)
MANY = TargetSchema("classification", (0, 1, 2))
NUMBER = TargetSchema("regression")
ROWS = (300, 1000, 20_000)
SIGNALS, SIGNAL_ROWS = 40, (300, 1000)  # data sets with a planted signal, and their test rows
PAGE = Path(__file__).parents[2] / "docs/explanation/decision.md"
BEGIN, END = "<!-- noise: begin -->", "<!-- noise: end -->"

Array = Any
Data = tuple[Array, Array, Array]  # labels of training rows, labels and predictions of test rows


@dataclass(frozen=True)
class Case:
    """A kind of data set: `draw` returns training labels, test labels and predictions from rows, signal and numbers."""

    name: str
    target: TargetSchema
    draw: Callable[[int, float, np.random.Generator], Data]
    rows: tuple[int, ...] = ROWS
    labels_only: bool = False

    @property
    def metrics(self) -> list[Metric]:
        rows = [row for row in metrics_of(self.target.task) if self.target.binary or not row.binary_only]
        return [row for row in rows if row.needs == "confusion"] if self.labels_only else rows


def two_labels(share: float) -> Callable[[int, float, np.random.Generator], Data]:
    """Probabilities of a logistic model: `signal` standard deviations lie between the classes."""

    def draw(rows: int, signal: float, rng: np.random.Generator) -> Data:
        train, truth = ((rng.random(rows) < share).astype(np.int64) for _ in range(2))
        spread = signal or rng.choice([0.1, 1.0, 3.0])  # a shy model, and one that fits the noise
        odds = np.log(train.mean() / (1 - train.mean()) if 0 < train.mean() < 1 else 1.0)
        scores = rng.normal(size=rows) * spread + signal**2 * (truth - 0.5)
        return train, truth, 1 / (1 + np.exp(-odds - scores))

    return draw


def tuned(share: float) -> Callable[[int, float, np.random.Generator], Data]:
    """Labels at the threshold with the best F1 on validation rows, as predictions of 0 and 1."""
    draw_part = two_labels(share)

    def draw(rows: int, signal: float, rng: np.random.Generator) -> Data:
        _, labels, probabilities = draw_part(max(rows * 3 // 4, 20), signal, rng)
        train, truth, predictions = draw_part(rows, signal, rng)
        threshold = tune_threshold(labels, probabilities, Threshold(maximise="f1")).value
        return train, truth, (predictions >= threshold).astype(np.float64)

    return draw


def three_labels(rows: int, signal: float, rng: np.random.Generator) -> Data:
    train, truth = (rng.choice(3, rows, p=[0.5, 0.3, 0.2]) for _ in range(2))
    spread = signal or rng.choice([0.1, 1.0, 3.0])
    scores = rng.normal(size=(rows, 3)) * spread + signal**2 * np.eye(3)[truth]
    shares = np.exp(scores) * np.bincount(train, minlength=3)
    return train, truth, shares / shares.sum(axis=1, keepdims=True)


def numbers(form: Callable[[Array], Array]) -> Callable[[int, float, np.random.Generator], Data]:
    """A target of any form; the model predicts its centre by the part of it that the signal explains."""

    def draw(rows: int, signal: float, rng: np.random.Generator) -> Data:
        train, explained, rest = rng.normal(size=(3, rows))
        share = signal / (1 + signal)
        truth = form(share**0.5 * explained + (1 - share) ** 0.5 * rest)
        predicted = share**0.5 * explained if signal else rng.choice([0.02, 0.2, 1.0]) * explained
        return form(train), truth, form(predicted)

    return draw


def trained(estimators: tuple[Any, ...], task: str) -> Callable[[int, float, np.random.Generator], Data]:
    """A model that is trained on three columns, and selected among `estimators` by validation rows."""

    def draw(rows: int, signal: float, rng: np.random.Generator) -> Data:
        x = rng.normal(size=(4 * rows, 3))
        target = signal * x[:, 0] + rng.normal(size=4 * rows)
        labels = (target > 0).astype(np.int64) if task == "classification" else target
        parts = slice(0, 2 * rows), slice(2 * rows, 3 * rows), slice(3 * rows, 4 * rows)
        models = [estimator().fit(x[parts[0]], labels[parts[0]]) for estimator in estimators]
        best = max(models, key=lambda model: model.score(x[parts[1]], labels[parts[1]]))
        predict = best.predict if task == "regression" else lambda frame: best.predict_proba(frame)[:, 1]
        return labels[parts[0]], labels[parts[2]], predict(x[parts[2]])

    return draw


CASES = (
    Case("two labels, 50 % positive", BINARY, two_labels(0.5)),
    Case("two labels, 10 % positive", BINARY, two_labels(0.1)),
    Case("tuned threshold, 50 % positive", BINARY, tuned(0.5), rows=(300,), labels_only=True),
    Case("tuned threshold, 10 % positive", BINARY, tuned(0.1), rows=(300,), labels_only=True),
    Case("three labels", MANY, three_labels),
    Case("normal target", NUMBER, numbers(lambda values: values)),
    Case("log-normal target", NUMBER, numbers(np.exp)),
    Case(
        "trained classifier",
        BINARY,
        trained((LogisticRegression, lambda: DecisionTreeClassifier(max_depth=3)), "classification"),
        rows=(300,),
    ),
    Case(
        "trained regressor",
        NUMBER,
        trained((LinearRegression, lambda: DecisionTreeRegressor(max_depth=3)), "regression"),
        rows=(300,),
    ),
)


@dataclass(frozen=True)
class DataSet:
    """The rows of one run, judged by one metric against its dummy baseline."""

    target: TargetSchema
    data: Data
    metric: Metric
    seed: int

    def gain(self) -> float:
        """Return the difference to the dummy baseline; below zero where the rows do not define it."""
        _, truth, predictions = self.data
        return self._gain(truth, predictions)

    def exceeds_chance(self, gain: float) -> bool:
        """Whether no permutation of the labels has such a gain."""
        _, truth, predictions = self.data
        rng = np.random.default_rng([self.seed, permutation.STREAM])
        return all(gain > self._gain(rng.permutation(truth), predictions) for _ in range(39))

    def promoted(self, gate: Gate, gain: float) -> bool:
        """Whether the gate promotes a first model with this difference to the dummy baseline."""
        share = as_share(gate.effective_lift)
        if gain <= (gate.effective_lift if share is None else share * abs(self._dummy)):
            return False
        _, truth, predictions = self.data
        answers = {"winner": predictions, "dummy": self._constant}
        measured = {
            model: compute_metrics(self.target, truth, values, [self.metric]) for model, values in answers.items()
        }
        with mock.patch.object(permutation, "MAX_RANK", 1):
            compared = compare_with_dummy(
                self.target,
                truth,
                answers,
                measured,
                metric=self.metric.name,
                confidence=gate.confidence,
                draws=gate.draws,
                seed=self.seed,
            )
        evidence = Decision(
            outcome="held",
            model="m",
            reason="",
            metric=self.metric.name,
            dummy_comparison=compared,
            constant=constant_part(self.target, predictions),
        )
        return apply_gate(evidence, gate).outcome == "promoted"

    def _gain(self, truth: Array, predictions: Array) -> float:
        sign = 1 if self.metric.greater_is_better else -1
        gain = sign * (value_of(self.target, truth, predictions, self.metric) - self._dummy)
        return -1.0 if np.isnan(gain) else gain

    @functools.cached_property
    def _constant(self) -> Array:
        train, truth, _ = self.data
        return constant_predictions(fit_dummy(self.target, train, self.metric), len(truth))

    @functools.cached_property
    def _dummy(self) -> float:
        return value_of(self.target, self.data[1], self._constant, self.metric)


@dataclass(slots=True)
class Counts:
    """How many data sets exceed chance, and how many of them are promoted."""

    exceed_chance: int = 0
    promoted: int = 0


def count(
    case: Case, rows: int, data_sets: int, *, signal: float = 0.0, metrics: Iterable[str] = (), draws: int = 200
) -> dict[str, Counts]:
    """Apply the default gate to many data sets, and return the counts by metric.

    Args:
        case: kind of data sets.
        rows: number of test rows.
        data_sets: number of data sets.
        signal: strength of a planted signal; 0 for noise.
        metrics: names; default all metrics of the case.
        draws: bootstrap samples.
    """
    chosen = [metric for metric in case.metrics if not metrics or metric.name in metrics]
    counts = {metric.name: Counts() for metric in chosen}
    for seed in range(data_sets):
        data = case.draw(rows, signal, np.random.default_rng([seed, rows]))
        for metric in chosen:
            run = DataSet(case.target, data, metric, seed)
            if (gain := run.gain()) <= 0 or not run.exceeds_chance(gain):
                continue
            counts[metric.name].exceed_chance += 1
            counts[metric.name].promoted += run.promoted(Gate(metric=metric.name, draws=draws), gain)
    return counts


def bounds(number: int, total: int, level: float = 0.95) -> tuple[float, float]:
    """Return the interval of Wilson (1927, https://doi.org/10.1080/01621459.1927.10502953) for a rate."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    rate, weight = number / total, 1 + z**2 / total
    middle, half = rate + z**2 / (2 * total), z * (rate * (1 - rate) / total + z**2 / (4 * total**2)) ** 0.5
    return max(0.0, (middle - half) / weight), min(1.0, (middle + half) / weight)


def table(data_sets: int) -> Iterator[str]:
    """Yield the lines of the table in Markdown."""
    yield "| Data | Test rows | Metric | Noise exceeds chance | Noise promoted | Signal promoted |"
    yield "|---|---|---|---|---|---|"
    for case in CASES:
        for rows in case.rows:
            noise = count(case, rows, data_sets)
            signals = count(case, rows, SIGNALS, signal=1.0) if rows in SIGNAL_ROWS else {}
            for name, counts in noise.items():
                power = _rate(signals[name].promoted, SIGNALS) if name in signals else ""
                rates = [_rate(number, data_sets) for number in (counts.exceed_chance, counts.promoted)]
                yield f"| {' | '.join([case.name, f'{rows:,}', f'`{name}`', *rates, power])} |"


def _rate(number: int, total: int) -> str:
    low, high = (f"{100 * bound:.1f}" for bound in bounds(number, total))
    return f"{100 * number / total:.1f} % ({low} to {high})"


def replace_table(page: str, lines: list[str]) -> str:
    """Return the text of the page with another table."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return "\n".join([f"{before}{BEGIN}", "", *lines, "", f"{END}{after}"])


def main() -> None:
    """Write the table into the page."""
    lines = []
    for line in table(int(sys.argv[1]) if len(sys.argv) > 1 else 1000):
        print(line, flush=True)
        lines.append(line)
    PAGE.write_text(replace_table(PAGE.read_text(), lines))


if __name__ == "__main__":
    main()
