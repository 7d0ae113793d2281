"""Compare the recorded figures of two runs, for display."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ml_pipelines.contracts import StepResult
from ml_pipelines.pipeline.facts import EvaluateFacts, PreprocessFacts, SplitFacts
from ml_pipelines.runner.run_summary import step_label
from ml_pipelines.store.artifact_store import ArtifactStore

__all__ = ["RunFigures", "read_figures", "run_difference"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFigures:
    """The figures of a run.

    Attributes:
        run_id: name of the run.
        steps: results by label, in the order in which the steps ended.
        rows: numbers of rows by name.
        winner: name of the selected candidate; None without an evaluation.
        metrics: metrics of the selected candidate by name, such as `test roc_auc`.
    """

    run_id: str
    steps: Mapping[str, StepResult]
    rows: Mapping[str, int]
    winner: str | None
    metrics: Mapping[str, float | None]


def read_figures(store: ArtifactStore, pipeline: str, run_id: str) -> RunFigures:
    """Return the figures of a run from its records. It reads no artifact."""
    results = [record.result for record in store.run(pipeline, run_id)]
    by_step = {result.step: result for result in results}
    evaluated = EvaluateFacts.of(by_step["evaluate"]) if "evaluate" in by_step else None
    return RunFigures(
        run_id=run_id,
        steps={step_label(result): result for result in results},
        rows=dict(_rows(by_step)),
        winner=evaluated.winner if evaluated else None,
        metrics=_metrics(evaluated) if evaluated else {},
    )


def _rows(results: Mapping[str, StepResult]) -> Iterator[tuple[str, int]]:
    if "ingest" in results:
        yield "table", results["ingest"].outputs["table"].rows or 0
    if "preprocess" in results:
        yield "quarantined", PreprocessFacts.of(results["preprocess"]).quarantined
    if "split" in results:
        yield from SplitFacts.of(results["split"]).rows.items()


def _metrics(facts: EvaluateFacts) -> dict[str, float | None]:
    tested = {f"test {name}": value for name, value in facts.test.items()}
    return {f"validation {facts.metric}": facts.value, **tested}


def run_difference(before: RunFigures | None, after: RunFigures) -> list[tuple[str, str]]:
    """Return the differences between two runs as label and text: the computed steps, the rows and the metrics.

    Args:
        before: figures of the earlier run; None without one.
        after: figures of the later run.
    """
    computing = {label: result for label, result in after.steps.items() if result.status != "published"}
    lines = [
        ("computed", f"{label}, {result.reason}") for label, result in computing.items() if result.status != "cached"
    ]
    cached = sum(result.status == "cached" for result in computing.values())
    lines.append(("reused", f"{cached} of {len(computing)} results"))
    if before is None:
        return lines
    changes = [*_changed_rows(before, after), *_changed_winner(before, after), *_changed_metrics(before, after)]
    return [*lines, *(changes or [("difference", "none in rows and metrics")])]


def _changed_rows(before: RunFigures, after: RunFigures) -> Iterator[tuple[str, str]]:
    for name, rows in after.rows.items():
        if (old := before.rows.get(name)) is not None and old != rows:
            yield "rows", f"{name} {old:,} -> {rows:,} ({rows - old:+,})"


def _changed_winner(before: RunFigures, after: RunFigures) -> Iterator[tuple[str, str]]:
    if before.winner and after.winner and before.winner != after.winner:
        yield "candidate", f"{before.winner} -> {after.winner}"


def _changed_metrics(before: RunFigures, after: RunFigures) -> Iterator[tuple[str, str]]:
    for name, value in after.metrics.items():
        old = before.metrics.get(name)
        if old == value:
            continue
        difference = f" ({value - old:+.4g})" if value is not None and old is not None else ""
        yield "metric", f"{name} {_number(old)} -> {_number(value)}{difference}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
