"""How often the gate is wrong, and what the bootstrap costs.

Run it: `python tests/benchmarks/decision.py [holdouts]`. It prints the tables of docs/explanation/decision.md.
"""

from __future__ import annotations

import resource
import sys
import time
from typing import Any

import numpy as np

from ml_pipelines.contracts import Comparison, Decision, Interval
from ml_pipelines.evaluation.bootstrap import bootstrap_metrics, percentile_interval
from ml_pipelines.evaluation.scorers import compute_metrics
from ml_pipelines.evaluation.target_schema import TargetSchema
from ml_pipelines.promotion.gate import apply_gate
from ml_pipelines.spec.gate import Gate
from ml_pipelines.spec.metric_table import get_metric

BINARY = TargetSchema("classification", (0, 1), 1)
SHARE = 0.15  # of hits
SHARED = 0.8  # correlation of what two models get wrong


def holdout(rows: int, better: float, seed: int) -> tuple[Any, dict[str, Any]]:
    """Truth and the scores of two models of one kind; ours sees the hits `better` standard deviations clearer."""
    rng = np.random.default_rng(seed)
    truth = (rng.random(rows) < SHARE).astype(np.int64)
    common = rng.normal(size=rows)
    scores = {}
    for name, signal in (("ours", 1.5 + better), ("theirs", 1.5)):
        raw = signal * truth + SHARED**0.5 * common + (1 - SHARED) ** 0.5 * rng.normal(size=rows)
        scores[name] = 1 / (1 + np.exp(-raw))
    return truth, scores


def outcome(metric: str, rows: int, better: float, seed: int, *, confidence: float = 0.95, draws: int = 1000) -> str:
    """What the gate says of one such holdout."""
    truth, scores = holdout(rows, better, seed)
    drawn = bootstrap_metrics(BINARY, truth, scores, draws=draws, seed=seed, metrics=[metric])[metric]
    values = {name: compute_metrics(BINARY, truth, score)[metric] or 0.0 for name, score in scores.items()}
    sign = 1 if get_metric(metric).greater_is_better else -1
    compared = Comparison(
        metric=metric,
        difference=sign * (values["ours"] - values["theirs"]),
        interval=percentile_interval(sign * (drawn["ours"] - drawn["theirs"]), confidence),
        draws=draws,
        rows=rows,
    )
    evidence = Decision(
        outcome="held",
        model="m",
        reason="",
        metric=metric,
        metrics={metric: values["ours"]},
        dummy_comparison=compared.model_copy(update={"interval": Interval(low=10.0, high=10.0, confidence=confidence)}),
        champion_version="1",
        comparison=compared,
    )
    return apply_gate(evidence, Gate(metric=metric, confidence=confidence)).outcome


def rates(metric: str, rows: int, better: float, holdouts: int, **options: Any) -> dict[str, float]:
    """The share of each outcome over many holdouts."""
    actual = [outcome(metric, rows, better, seed, **options) for seed in range(holdouts)]
    return {name: actual.count(name) / holdouts for name in ("promoted", "held", "rejected")}


def costs(only: list[str] | None, rows: int = 100_000, draws: int = 10_000) -> tuple[float, float, float]:
    """Seconds of wall time and of the processor, and by how many MB the memory's peak has grown."""
    truth, scores = holdout(rows, 0.1, 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    bootstrap_metrics(BINARY, truth, scores, draws=draws, seed=1, metrics=only)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return time.perf_counter() - wall, time.process_time() - cpu, (peak - before) / 1024


def main() -> None:
    """Print both tables; the costs first, while the peak of the memory is still theirs."""
    print("10,000 draws on 100,000 rows, two models")
    print("| metrics | seconds | of the processor | memory |\n|---|---|---|---|")
    for only in (["accuracy"], ["roc_auc"], ["average_precision"], ["log_loss"], None):
        wall, cpu, grown = costs(only)
        print(f"| {only[0] if only else 'all nine'} | {wall:.1f} | {cpu:.1f} | {grown:.0f} MB |", flush=True)
    holdouts = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    print(f"\n{holdouts} holdouts of each kind, 1000 draws each, confidence 95 %")
    print("| metric | test rows | true difference | promoted | held | rejected |\n|---|---|---|---|---|---|")
    for metric in ("roc_auc", "average_precision", "f1", "log_loss"):
        for rows, better in ((300, 0.0), (1000, 0.0), (30_000, 0.0), (1000, 0.1), (1000, 0.3)):
            if metric in ("f1", "log_loss") and better:
                continue  # another signal moves these two by more than ranking better
            truth, scores = holdout(400_000, better, 0)
            true = [compute_metrics(BINARY, truth, scores[name])[metric] or 0.0 for name in ("ours", "theirs")]
            gap = f"{true[0] - true[1]:+.3f}" if better else "none"
            share = rates(metric, rows, better, holdouts)
            output = " | ".join(f"{100 * share[name]:.1f} %" for name in ("promoted", "held", "rejected"))
            print(f"| {metric} | {rows} | {gap} | {output} |", flush=True)


if __name__ == "__main__":
    main()
