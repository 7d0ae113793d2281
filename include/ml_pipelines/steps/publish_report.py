"""Make a run's report at its end: from what the steps left, into the store and to the tracking server."""

from __future__ import annotations

from typing import Any

from ml_pipelines._utils.canonical_json import load_json
from ml_pipelines.contracts import ArtifactRef, Decision, RunDetails
from ml_pipelines.errors import PipelineError, TransientError
from ml_pipelines.pipeline.facts import FactsForRecord
from ml_pipelines.pipeline.parameters import RecordParameters
from ml_pipelines.pipeline.step import Publication, all_artifacts, one_artifact
from ml_pipelines.ports import Services, TrackedModel
from ml_pipelines.promotion.champion import champion_before_run
from ml_pipelines.promotion.deployment import training_record
from ml_pipelines.reporting.report_data import ReportData
from ml_pipelines.reporting.training_report import render

__all__ = ["REPORT_FILE", "publish_report"]

REPORT_FILE = "report.html"
Recording = Publication[RecordParameters, FactsForRecord]


def publish_report(work: Recording, services: Services, decision: Decision, details: RunDetails) -> ArtifactRef:
    """Render the report, keep it in the store, and log it with the best candidate's training.

    Args:
        work: of the step record_decision; with the references `report`, `evaluation` and `trainings`, as far as the
            run came.
        services: the outside world.
        decision: the final one.
        details: of the ledger's entry.

    Returns:
        Where the report is.

    Raises:
        ServiceUnavailable: the registry or the tracking server does not answer.
    """
    trainings = [load_json(services.read(ref)) for ref in all_artifacts(work.references, "trainings")]
    evidence = ReportData(
        identity=work.identity,
        decision=decision,
        details=details,
        quality=_document(work, services, "report"),
        evaluation=_document(work, services, "evaluation"),
        trainings=trainings,
        tasks=[task for task in services.tasks(work.identity) if task.result.step != "record_decision"],
        **(_champion(work, services, decision.model) if trainings else {}),
    )
    page = render(evidence)
    ref = services.save_artifact(page.encode(), "html")
    if (tracked := _tracked(work, decision)) is not None:
        services.tracking.log_evaluation(tracked, {}, {}, {REPORT_FILE: page})
    return ref


def _document(work: Recording, services: Services, name: str) -> dict[str, Any] | None:
    if name not in work.references:
        return None
    return load_json(services.read(one_artifact(work.references, name)))


def _tracked(work: Recording, decision: Decision) -> TrackedModel | None:
    """The training of the best candidate, where it was written down."""
    index = decision.candidate_index
    if index is None or index >= len(work.facts.train):
        return None
    trained = work.facts.train[index]
    return TrackedModel(trained.tracking_run_id, trained.model_uri, trained.tracking_url)


def _champion(work: Recording, services: Services, model: str) -> dict[str, Any]:
    """The record of the champion's training, or why it can't be had: never a reason for the run to fail."""
    version = champion_before_run(services.registry, model, work.identity)
    if version is None:
        return {}
    told: dict[str, Any] = {"champion_version": version.version}
    try:
        record = training_record(services, version)
    except TransientError:
        raise
    except PipelineError as exc:
        return {**told, "champion_missing": exc.what}
    if "profile" not in record:
        return {
            **told,
            "champion_missing": f"the training of version {version.version} holds no profile of its features",
        }
    return {**told, "champion_training": record}
