"""Find the artifacts of a run that evaluated its candidates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ml_pipelines._utils.canonical_json import load_json
from ml_pipelines.contracts import ArtifactRef, StepResult
from ml_pipelines.errors import ArtifactMissing, RequestError
from ml_pipelines.evaluation.records import Evaluation
from ml_pipelines.ports import Ledger
from ml_pipelines.store.artifact_store import ArtifactStore

__all__ = ["RunArtifacts", "find_run_artifacts", "missing_artifact"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunArtifacts:
    """The artifacts of a run.

    Attributes:
        pipeline: name of the pipeline.
        run_id: name of the run.
        parts: the tables `train`, `validation` and `test` of the split.
        winner: name of the selected candidate.
        model: model of the selected candidate.
        training: its training record.
        predictions: its predictions for the validation rows, before a refit on them.
        report: report of the run; None for a run without an entry in the ledger.
    """

    pipeline: str
    run_id: str
    parts: dict[str, ArtifactRef]
    winner: str
    model: ArtifactRef
    training: dict[str, Any]
    predictions: ArtifactRef
    report: ArtifactRef | None


def find_run_artifacts(store: ArtifactStore, ledger: Ledger, pipeline: str, run_id: str) -> RunArtifacts:
    """Return the artifacts of a run. The documents that this function reads are verified.

    Raises:
        RequestError: the run did not evaluate its candidates.
        ArtifactMissing: a document of the run was removed from the store.
        ArtifactCorrupt: a document of the run was changed.
    """
    results = [record.result for record in store.run(pipeline, run_id)]
    by_step = {result.step: result for result in results}
    if missing := [step for step in ("split", "evaluate") if step not in by_step]:
        raise _not_evaluated(pipeline, run_id, missing[0], list(by_step))
    evaluation = Evaluation.model_validate(_document(store, by_step["evaluate"].outputs["evaluation"], run_id))
    sha256 = evaluation.candidates[evaluation.winner_index].sha256
    trained = _trained(results, sha256, run_id)
    entry = ledger.entry(pipeline, run_id)
    return RunArtifacts(
        pipeline=pipeline,
        run_id=run_id,
        parts={part: by_step["split"].outputs[part] for part in ("train", "validation", "test")},
        winner=evaluation.winner,
        model=trained.outputs["model"],
        training=_document(store, trained.outputs["training"], run_id),
        predictions=trained.outputs["predictions"],
        report=entry.details.report if entry else None,
    )


def missing_artifact(error: ArtifactMissing, name: str, run_id: str) -> ArtifactMissing:
    """Return the error that an artifact of a run does not exist anymore."""
    return ArtifactMissing(
        f"{name} of run {run_id!r} does not exist",
        where=error.where,
        expected=error.expected,
        got=error.got,
        fix="if `ml-pipelines store prune` removed it, run the pipeline again; otherwise pass another --store",
    )


def _document(store: ArtifactStore, ref: ArtifactRef, run_id: str) -> dict[str, Any]:
    try:
        return dict(load_json(store.read(ref)))
    except ArtifactMissing as exc:
        raise missing_artifact(exc, "a document", run_id) from exc


def _trained(results: list[StepResult], sha256: str | None, run_id: str) -> StepResult:
    """Return the training of the model with a digest. A retry may have left records of other candidates."""
    for result in results:
        if result.step == "train" and "model" in result.outputs and result.outputs["model"].sha256 == sha256:
            return result
    raise RequestError(
        f"run {run_id!r} has no training of the model that it evaluated",
        expected=f"a model with sha256 {sha256}",
        got="trainings of other models",
        fix="run the pipeline again under another name",
    )


def _not_evaluated(pipeline: str, run_id: str, step: str, steps: list[str]) -> RequestError:
    return RequestError(
        f"run {run_id!r} of pipeline {pipeline!r} did not run the step {step}",
        expected="a run that evaluated its candidates",
        got=f"the steps {', '.join(steps)}" if steps else "no step",
        fix="run the pipeline with --until evaluate, which also computes if nothing has changed, and export that run",
    )
