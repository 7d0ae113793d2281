"""Summarize a run from the store and the ledger, for display."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ml_pipelines._utils.canonical_json import load_json
from ml_pipelines.contracts import ArtifactRef, StepResult
from ml_pipelines.errors import RequestError
from ml_pipelines.ports import Ledger
from ml_pipelines.reporting.decision_card import decision_card
from ml_pipelines.store.artifact_store import ArtifactStore

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["run_card", "step_label"]


def run_card(
    store: str, ledger: Ledger, pipeline: str, run_id: str, *, where_next: Sequence[tuple[str, str]] = ()
) -> tuple[str, RenderableType]:
    """Return the outcome of a run and its decision card.

    Args:
        store: URI of the artifact store.
        ledger: the ledger.
        pipeline: name of the pipeline.
        run_id: name of the run.
        where_next: further lines of the card, as label and text.

    Raises:
        RequestError: the run has no entry in the ledger.
    """
    artifacts = ArtifactStore(store)
    entry = ledger.entry(pipeline, run_id)
    if entry is None:
        runs = artifacts.runs(pipeline)
        raise RequestError(
            f"run {run_id!r} of pipeline {pipeline!r} has no decision",
            where=store,
            expected=f"one of {', '.join(runs[:5])}" if runs else "a run that has ended",
            got=run_id,
            fix="name a run that has ended; --pipeline names another pipeline, ML_PIPELINES_LEDGER another ledger",
        )
    records = artifacts.run(pipeline, run_id)
    evaluation = next(
        (record.result.outputs["evaluation"] for record in records if record.result.step == "evaluate"), None
    )
    card = decision_card(
        entry.decision,
        entry.details,
        evaluation=load_json(artifacts.read(evaluation)) if evaluation else None,
        steps=[
            (step_label(record.result), record.result.status == "cached", record.result.seconds) for record in records
        ],
        where_next=[*_report(entry.details.report), *where_next],
    )
    return entry.decision.outcome, card


def _report(ref: ArtifactRef | None) -> list[tuple[str, str]]:
    """Return the address of the run's report: a path if the store is a folder."""
    if ref is None:
        return []
    path = ref.uri.removeprefix("file://")
    return [("report", path.removeprefix(f"{Path.cwd()}/"))]


def step_label(result: StepResult) -> str:
    """Return the label of a result for display: its step, with the candidate that it trained."""
    candidate = result.values.get("candidate") if result.step == "train" else None
    return f"{result.step}[{candidate}]" if candidate else result.step
