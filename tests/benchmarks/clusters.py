"""How well intervals and the gate's bound hold for groups of rows, with and without a bootstrap of groups.

Run it: `python -m tests.benchmarks.clusters [data sets]`. It prints the table of docs/explanation/decision.md.

Each row is a group effect plus noise. *Covered* is the share of the data sets whose 95 % interval of the difference
between two models contains the true difference. *Noise passes* is the share in which a model without information is
above the dummy baseline, with labels and predictions that are equal within a group. At most 2.5 % may be.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np

from ml_pipelines.evaluation import permutation
from ml_pipelines.evaluation.comparison import compare_models, compare_with_dummy
from ml_pipelines.evaluation.scorers import compute_metrics
from ml_pipelines.evaluation.target_schema import TargetSchema
from ml_pipelines.spec.metric_table import METRICS

BINARY = TargetSchema("classification", (0, 1), 1)
NUMBER = TargetSchema("regression")
CASES = ((20, 5), (20, 20), (50, 10), (200, 5))

Array = Any


def groups_of(groups: int, size: int, rng: np.random.Generator) -> Array:
    """Return the group of each row, with sizes that vary by half."""
    return np.repeat(np.arange(groups), rng.integers(max(1, size // 2), size + size // 2 + 1, groups))


def is_covered(groups: int, size: int, seed: int, *, clustered: bool) -> bool:
    """Whether the interval of the difference in squared error covers 0: both models are equally good."""
    rng = np.random.default_rng([seed, groups, size])
    clusters = groups_of(groups, size, rng)
    truth, first, second = (
        rng.normal(size=groups)[clusters] + rng.normal(size=len(clusters)) * scale for scale in (1, 0.3, 0.3)
    )
    predictions = {"winner": first, "champion": second}
    measured = {
        model: compute_metrics(NUMBER, truth, values, [METRICS["rmse"]]) for model, values in predictions.items()
    }
    uncertainty = compare_models(
        NUMBER,
        truth,
        predictions,
        measured,
        metric="rmse",
        confidence=0.95,
        draws=400,
        seed=seed,
        clusters=clusters if clustered else None,
    )
    assert uncertainty.comparison is not None
    interval = uncertainty.comparison.interval
    assert interval is not None
    return interval.low <= 0 <= interval.high


def noise_passes(groups: int, size: int, seed: int, *, clustered: bool) -> bool:
    """Whether a model without information is clearly better than the dummy baseline by ROC-AUC."""
    rng = np.random.default_rng([seed, groups, size, 1])
    clusters = groups_of(groups, size, rng)
    truth = rng.permutation(np.arange(groups) % 2)[clusters]
    scores = rng.random(groups)[clusters]
    measured = {"winner": compute_metrics(BINARY, truth, scores, [METRICS["roc_auc"]]), "dummy": {"roc_auc": 0.5}}
    with mock.patch.object(permutation, "MAX_RANK", 1):
        compared = compare_with_dummy(
            BINARY,
            truth,
            {"winner": scores, "dummy": np.full(len(truth), 0.5)},
            measured,
            metric="roc_auc",
            confidence=0.95,
            draws=400,
            seed=seed,
            clusters=clusters if clustered else None,
        )
    return compared is not None and compared.interval is not None and compared.interval.low > 0


def table(data_sets: int) -> Iterator[str]:
    """Yield the lines of the table in Markdown."""
    yield "| Groups | Rows of a group | Covered: rows | Covered: groups | Noise passes: rows | Noise passes: groups |"
    yield "|---|---|---|---|---|---|"
    for groups, size in CASES:
        rates = [
            sum(check(groups, size, seed, clustered=clustered) for seed in range(data_sets)) / data_sets
            for check in (is_covered, noise_passes)
            for clustered in (False, True)
        ]
        yield f"| {groups} | {size} | {' | '.join(f'{100 * rate:.1f} %' for rate in rates)} |"


def main() -> None:
    """Print the table."""
    for line in table(int(sys.argv[1]) if len(sys.argv) > 1 else 400):
        print(line, flush=True)


if __name__ == "__main__":
    main()
