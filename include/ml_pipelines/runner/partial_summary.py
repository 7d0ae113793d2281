"""Summarize a run that ended before its decision, for display."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ml_pipelines._utils.canonical_json import load_json
from ml_pipelines.contracts import CandidateFailure, Decision, StepResult
from ml_pipelines.evaluation.records import Evaluation
from ml_pipelines.pipeline.candidate_failures import parse_failures
from ml_pipelines.pipeline.facts import (
    CompareFacts,
    DecideFacts,
    IngestFacts,
    PreprocessFacts,
    QualityFacts,
    SplitFacts,
)
from ml_pipelines.ports.ledger_entry import RowCounts, RunDetails
from ml_pipelines.reporting.decision_card import partial_card
from ml_pipelines.reporting.formatting import format_count
from ml_pipelines.runner.run_summary import step_label
from ml_pipelines.spec.training import PipelineSpec
from ml_pipelines.store.artifact_store import ArtifactStore

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ml_pipelines.runner.training import RunResults

__all__ = ["partial_run_card"]

Documents = Mapping[str, Any]


def partial_run_card(spec: PipelineSpec, store: str, run_id: str, until: str, results: RunResults) -> RenderableType:
    """Return the card of a run with `until`: the data, the checks, the candidates and the metrics so far.

    Args:
        spec: the declaration.
        store: URI of the artifact store.
        run_id: name of the run.
        until: the last step of the run.
        results: results by step.
    """
    steps = [result for one in results.values() for result in (one if isinstance(one, list) else [one]) if result]
    by_name = {result.step: result for result in steps}
    artifacts = ArtifactStore(store)
    evaluated = by_name.get("evaluate")
    evaluation = load_json(artifacts.read(evaluated.outputs["evaluation"])) if evaluated else None
    failures = [load_json(artifacts.read(result.outputs["failure"])) for result in steps if "failure" in result.outputs]
    reached = until in by_name
    end = f"The run ended after the step {until}" if reached else "A quality check ended the run"
    return partial_card(
        _evidence(spec.model.name, by_name, evaluation),
        _details(by_name),
        verdict=f"until {until}" if reached else "stopped",
        reason=f"{end}. It registered and deployed no model, and the ledger has no entry of it.",
        further=[("run", run_id), *_facts(by_name), *_candidates(steps, parse_failures(failures))],
        evaluation=evaluation,
        steps=[(step_label(result), result.status == "cached", result.seconds) for result in steps],
    )


def _evidence(model: str, results: Mapping[str, StepResult], evaluation: Documents | None) -> Decision:
    """Return the decision, or an open one with the findings and metrics that exist so far."""
    if "decide" in results:
        return DecideFacts.of(results["decide"]).decision
    checked = results.get("check_quality")
    findings = QualityFacts.of(checked).findings if checked else ()
    measured = _measured(Evaluation.model_validate(evaluation)) if evaluation else {}
    compared = results.get("compare_with_champion")
    champion = CompareFacts.of(compared).champion_version if compared else None
    return Decision(outcome="held", model=model, reason="", findings=findings, champion_version=champion, **measured)


def _measured(evaluation: Evaluation) -> dict[str, Any]:
    champion = evaluation.champion
    return {
        "metric": evaluation.metric,
        "intervals": evaluation.intervals,
        "champion_metrics": champion.test if champion else {},
        "champion_intervals": evaluation.champion_intervals,
        "comparison": evaluation.comparison,
        "dummy_metrics": evaluation.dummy.test,
        "failures": evaluation.failures,
    }


def _details(results: Mapping[str, StepResult]) -> RunDetails:
    compared = CompareFacts.of(results["compare_with_champion"]) if "compare_with_champion" in results else None
    counts = PreprocessFacts.of(results["preprocess"]) if "preprocess" in results else None
    return RunDetails(
        pin=IngestFacts.of(results["ingest"]).pin,
        changed=compared.changed if compared else None,
        rows=RowCounts.model_validate(counts.as_values()) if counts else None,
        defaults=QualityFacts.of(results["check_quality"]).defaults if "check_quality" in results else None,
    )


def _facts(results: Mapping[str, StepResult]) -> Iterator[tuple[str, str]]:
    """Yield the facts of the steps as label and text."""
    table, columns = results["ingest"].outputs["table"], IngestFacts.of(results["ingest"]).columns
    yield "table", f"{format_count(table.rows or 0)} rows, {columns} columns"
    if "check_quality" in results:
        facts = QualityFacts.of(results["check_quality"])
        yield "quality", f"{facts.verdict}, {format_count(facts.quarantined)} rows for the quarantine"
    if "split" in results:
        rows = SplitFacts.of(results["split"]).rows
        yield "split", ", ".join(f"{part} {format_count(count)}" for part, count in rows.items())
    if "decide" in results:
        decision = DecideFacts.of(results["decide"]).decision
        yield "gate", f"{decision.outcome}, not carried out: {decision.reason}"


def _candidates(steps: list[StepResult], failures: list[CandidateFailure]) -> Iterator[tuple[str, str]]:
    models = [result for result in steps if result.step == "train" and "model" in result.outputs]
    trained = [str(result.values["candidate"]) for result in models]
    if trained:
        yield "trained", ", ".join(trained)
    for failure in failures:
        yield "failed", f"{failure.candidate}: {failure.error}"
