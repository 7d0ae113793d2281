"""Find what a run left in the store, for people to read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ml_pipelines._utils.canonical_json import load_json
from ml_pipelines.contracts import ArtifactRef
from ml_pipelines.errors import RequestError
from ml_pipelines.pipeline.facts import TrainFacts
from ml_pipelines.ports import Ledger
from ml_pipelines.reporting.decision_card import decision_card
from ml_pipelines.store.artifact_store import ArtifactStore, RunRecord

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["run_card"]


def run_card(
    store: str, ledger: Ledger, pipeline: str, run_id: str, *, where_next: Sequence[tuple[str, str]] = ()
) -> tuple[str, RenderableType]:
    """The outcome of a run and its decision card.

    Raises:
        RequestError: the run has no entry in the ledger.
    """
    artifacts = ArtifactStore(store)
    entry = ledger.entry(pipeline, run_id)
    if entry is None:
        known = artifacts.runs(pipeline)
        raise RequestError(
            f"run {run_id!r} of pipeline {pipeline!r} has no decision",
            where=store,
            expected=f"one of {', '.join(known[:5])}" if known else "a run that has ended",
            got=run_id,
            fix="name a run that has ended; --pipeline names another pipeline, ML_PIPELINES_LEDGER another ledger",
        )
    records = artifacts.run(pipeline, run_id)
    evaluated = next((each.result.outputs["evaluation"] for each in records if each.result.step == "evaluate"), None)
    card = decision_card(
        entry.decision,
        entry.details,
        evaluation=load_json(artifacts.read(evaluated)) if evaluated else None,
        steps=[(_label(each), each.result.status == "cached", each.result.seconds) for each in records],
        where_next=[*_report(entry.details.report), *where_next],
    )
    return entry.decision.outcome, card


def _report(ref: ArtifactRef | None) -> list[tuple[str, str]]:
    """Where the run's report is: a path if the store is a folder."""
    if ref is None:
        return []
    place = ref.uri.removeprefix("file://")
    return [("report", place.removeprefix(f"{Path.cwd()}/"))]


def _label(record: RunRecord) -> str:
    candidate = TrainFacts.of(record.result).candidate if record.result.step == "train" else None
    return f"{record.identity.task_id}[{candidate}]" if candidate else record.identity.task_id
